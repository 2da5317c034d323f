import { createHmac, timingSafeEqual } from "node:crypto";

const same = (a, b) => a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));

/** Was exactly this body (a Buffer) sent by us, within five minutes? Standard Webhooks: webhook-signature. */
export function verify(secret, headers, body, tolerance = 300) {
  const at = headers["webhook-timestamp"];
  if (!(Math.abs(Date.now() / 1000 - Number(at)) <= tolerance)) return false;
  const key = secret.startsWith("whsec_") ? Buffer.from(secret.slice(6), "base64") : secret;
  const signed = createHmac("sha256", key).update(`${headers["webhook-id"]}.${at}.`).update(body);
  const want = `v1,${signed.digest("base64")}`;
  return headers["webhook-signature"].split(" ").some((given) => same(want, given));
}

/** The same of the body alone: x-agentfield-signature. */
export function verifyBody(secret, headers, body) {
  const want = `sha256=${createHmac("sha256", secret).update(body).digest("hex")}`;
  return same(want, headers["x-agentfield-signature"]);
}
