import logging

log = logging.getLogger("agentfield")
log.propagate = False  # tests that care for a line ask for it
log.addHandler(logging.NullHandler())
