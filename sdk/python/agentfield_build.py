"""Builds the wheel (PEP 517) with the standard library alone, so that pip needs no network for it."""
import base64
import hashlib
import os
import re
import tarfile
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))


def _project():
    text = _read("pyproject.toml").decode()
    return {key: re.search(r'(?m)^%s = "(.*)"$' % key, text).group(1) for key in ("name", "version", "description", "requires-python")}


def _read(path):
    with open(os.path.join(HERE, *path.split("/")), "rb") as f:
        return f.read()


def _modules():
    return sorted("agentfield/" + name for name in os.listdir(os.path.join(HERE, "agentfield")) if name.endswith((".py", ".typed")))


def _metadata():
    p = _project()
    return ("Metadata-Version: 2.1\nName: %(name)s\nVersion: %(version)s\nSummary: %(description)s\nRequires-Python: %(requires-python)s\n" % p).encode()


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    stem = "%(name)s-%(version)s" % _project()
    info = stem + ".dist-info/"
    files = [(path, _read(path)) for path in _modules()]
    files += [(info + "METADATA", _metadata()), (info + "WHEEL", b"Wheel-Version: 1.0\nGenerator: agentfield\nRoot-Is-Purelib: true\nTag: py3-none-any\n")]
    record = ""
    wheel = stem + "-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, wheel), "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files:
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record += "%s,sha256=%s,%d\n" % (path, digest, len(content))
            archive.writestr(path, content)
        archive.writestr(info + "RECORD", record + info + "RECORD,,\n")
    return wheel


def build_sdist(sdist_directory, config_settings=None):
    stem = "%(name)s-%(version)s" % _project()
    with tarfile.open(os.path.join(sdist_directory, stem + ".tar.gz"), "w:gz") as archive:
        for path in ["pyproject.toml", "agentfield_build.py", *_modules()]:
            archive.add(os.path.join(HERE, path), stem + "/" + path)
    return stem + ".tar.gz"
