// Receives notifications and checks who sent them. Node 18 or newer, nothing else.
//
// WEBHOOK_SECRET=test-secret node receiver.mjs 127.0.0.1:8082
import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';

const BODY_BYTES_MAX = 1 << 20;
const CLOCK_SKEW_SECONDS_MAX = 300;
const REMEMBERED_MAX = 10_000;

class Refused extends Error {
  constructor(status, why) {
    super(why);
    this.status = status;
  }
}

/** Throws Refused unless someone who knows the secret signed these very bytes. */
function verify(secret, signature, timestamp, body) {
  const hmac = createHmac('sha256', secret);
  if (timestamp !== undefined) {
    const skew = Math.abs(Date.now() / 1000 - (/^[0-9]{1,12}$/.test(timestamp) ? Number(timestamp) : 0));
    if (skew > CLOCK_SKEW_SECONDS_MAX) throw new Refused(401, 'timestamp too far off');
    hmac.update(`${timestamp}.`);
  }
  const expected = Buffer.from(hmac.update(body).digest('hex'));
  const given = Buffer.from(signature ?? '');
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
    throw new Refused(401, 'missing or wrong signature');
  }
}

async function readBody(request) {
  const chunks = [];
  let length = 0;
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    length += chunk.length;
    if (length > BODY_BYTES_MAX) throw new Refused(413, 'body too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

const seen = new Set();

function firstTime(id) {
  if (seen.has(id)) return false;
  seen.add(id);
  if (seen.size > REMEMBERED_MAX) seen.delete(seen.values().next().value); // the oldest
  return true;
}

function parse(body) {
  try {
    return JSON.parse(body);
  } catch {
    return null;
  }
}

async function accept(request) {
  const headers = request.headers;
  const body = await readBody(request);
  verify(secret, headers['x-o2ims-signature'], headers['x-o2ims-timestamp'], body);
  const event = parse(body);
  // The headers are not signed, the body is: an id has to be the same in both.
  // Header values are UTF-8, which Node reads as Latin-1.
  const id = Buffer.from(headers['x-o2ims-notification-id'] ?? '', 'latin1').toString();
  if (typeof event !== 'object' || !event || !id || (event.notificationId ?? id) !== id) {
    throw new Refused(400, 'not a notification');
  }
  // Here the work is done. Where it can fail, remember the id only after it succeeded.
  const word = firstTime(id) ? 'verified' : 'duplicate';
  return `${word} ${headers['x-o2ims-event-type']} ${id} ${headers['x-o2ims-subscription-id']}`;
}

const secret = process.env.WEBHOOK_SECRET;
const [, host, port] = process.argv[2]?.match(/^(.+):([0-9]+)$/) ?? [];
if (!secret || !host) {
  console.error('usage: WEBHOOK_SECRET=… node receiver.mjs 127.0.0.1:8082');
  process.exit(1);
}

const server = createServer(async (request, response) => {
  try {
    console.log(await accept(request));
    response.writeHead(204).end();
  } catch (error) {
    console.log(`refused: ${error.message}`);
    response.writeHead(error.status ?? 400).end();
  }
});
server.listen(Number(port), host, () => console.log(`listening on http://${host}:${server.address().port}`));
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    server.close();
    server.closeIdleConnections();
    setTimeout(() => server.closeAllConnections(), 5000).unref();
  });
}
