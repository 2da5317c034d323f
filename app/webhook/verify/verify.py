import base64, hashlib, hmac, time


def verify(secret, headers, body, tolerance=300):
    """Was exactly this body (bytes) sent by us, within five minutes? Standard Webhooks: webhook-signature."""
    at = headers["webhook-timestamp"]
    if abs(time.time() - int(at)) > tolerance:
        return False
    key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
    signed = f"{headers['webhook-id']}.{at}.".encode() + body
    want = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return any(hmac.compare_digest(want, given) for given in headers["webhook-signature"].split())


def verify_body(secret, headers, body):
    """The same of the body alone: x-agentfield-signature."""
    want = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(want, headers["x-agentfield-signature"])
