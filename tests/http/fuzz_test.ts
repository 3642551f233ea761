// What the network sends can be anything; the worker that reads it goes on. FUZZ_SEED chooses other garbage, and FUZZ_RUNS
// how much: `deno task fuzz:http` sends a hundred thousand requests to each engine, and ten thousand ClientHellos.
import { assert, assertEquals } from "@std/assert";
import { connect, HandoffSource, listen } from "@winsock/handoff";
import { observe } from "../../handoff/source.ts";
import { CERTIFICATE } from "../../examples/certificate.ts";
import { settledDescriptors } from "../kit/descriptors.ts";
import { isOpen } from "../kit/handoffs.ts";
import { clientHello } from "../kit/client_hello.ts";
import { endChild, spawnChild, until, within } from "../kit/process.ts";
import { random } from "../kit/random.ts";

const SEED = Number(Deno.env.get("FUZZ_SEED") ?? 1);
const RUNS = Number(Deno.env.get("FUZZ_RUNS") ?? 150);
/** How many attacks there are at a time. */
const AT_ONCE = RUNS > 1_000 ? 64 : 10;
/** Attacks after which the worker has all that it keeps, and how many more descriptors are no leak. */
const [WARM_UP, MORE] = [100, 20];
/** The share of ClientHellos that servers without TLS get, and of other bytes that the one with TLS gets. */
const HELLOS = 0.1;

/** Requests to begin with. */
const SEEDS = [
  "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
  "POST /hash HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
  "POST /hash HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
  "POST /hash HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
  "GET /bytes?length=100000 HTTP/1.0\r\n\r\n",
  "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x85abcd\x09\x07\x0f\x08\x0e",
  "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
  "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
  "TRACE http://[::1 HTTP/1.1\r\nHost: ]\r\n\r\n",
  "GET //a\\b/../%ff?# HTTP/1.1\r\nHost: \x7f:99999\r\n\r\n",
  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
  "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
  `GET / HTTP/1.1\r\nHost: a\r\n${"X: y\r\n".repeat(5_000)}\r\n`,
  `GET /${"a".repeat(100_000)} HTTP/1.1\r\nHost: a\r\n\r\n`,
  "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
];

/** Cuts, repeats and overwrites. */
function mutate(text: string, next: () => number): Uint8Array {
  const bytes = Array.from(text, (char) => char.charCodeAt(0) & 0xff);
  const at = () => Math.floor(next() * bytes.length);
  for (let count = Math.floor(next() * 5); count > 0; count--) {
    const kind = next();
    if (kind < 0.3) bytes[at()] = Math.floor(next() * 256);
    else if (kind < 0.5) bytes.splice(at(), Math.floor(next() * 10));
    else if (kind < 0.7) bytes.splice(at(), 0, ...bytes.slice(at()).slice(0, 100));
    else if (kind < 0.9) bytes.splice(at());
    else bytes.splice(at(), 0, ...Array.from({ length: 50 }, () => Math.floor(next() * 256)));
  }
  return Uint8Array.from(bytes);
}

/** Sends garbage in one piece or two, and leaves: at once, rudely or after the answer. */
async function attack(port: number, bytes: Uint8Array, next: () => number): Promise<void> {
  const conn = (await connect({ port })).toConn();
  const leave = next();
  try {
    const cut = Math.floor(next() * bytes.length);
    await conn.write(bytes.subarray(0, cut));
    if (next() < 0.5) await new Promise((resolve) => setTimeout(resolve, 1));
    await conn.write(bytes.subarray(cut));
    if (leave < 0.3) return;
    if (leave < 0.6) await conn.closeWrite();
    await Promise.race([
      new Response(conn.readable).arrayBuffer(),
      new Promise((resolve) => setTimeout(resolve, 30)),
    ]);
  } catch {
    // It may end the connection whenever it likes.
  } finally {
    conn.close();
  }
}

for (const app of ["plain over node:http", "plain over tls", "plain over Deno.serve"]) {
  const isTls = app.endsWith("tls");
  // A handshake costs much more than a request.
  const runs = isTls && RUNS > 1_000 ? RUNS / 10 : RUNS;
  Deno.test(`garbage never takes a worker down: ${app}, ${runs} times`, async () => {
    const child = spawnChild("http_worker.ts", app.split(" over "));
    let ended = false;
    child.status.then(() => ended = true);
    const source = new HandoffSource(child);
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr;
    const sending = (async () => {
      for await (const socket of listener) await source.send(socket);
    })();
    sending.catch(() => {});
    const idle = () => until(() => observe(source).held === 0, `the worker has let go of all of it (seed ${SEED})`);
    try {
      const next = random(SEED);
      const hello = String.fromCharCode(...await clientHello("localhost"));
      let before: number[] | undefined;
      for (let run = 0; run < runs; run += AT_ONCE) {
        const attacks = Array.from({ length: Math.min(AT_ONCE, runs - run) }, () => {
          const seed = next() < (isTls ? 1 - HELLOS : HELLOS) ? hello : SEEDS[Math.floor(next() * SEEDS.length)]!;
          return attack(port, mutate(seed, next), next);
        });
        await within(20_000, Promise.all(attacks));
        assert(!ended, `the worker has ended after ${run} (seed ${SEED})`);
        if (before !== undefined || run < WARM_UP) continue;
        await idle();
        before = await settledDescriptors(child.pid);
      }
      await idle();
      const client = Deno.createHttpClient({ caCerts: [CERTIFICATE.cert] });
      const answer = await within(20_000, fetch(`${isTls ? "https" : "http"}://127.0.0.1:${port}/`, { client }));
      assertEquals((await answer.json()).pid, child.pid, `seed ${SEED}`);
      client.close();
      await idle();
      const [more] = (await settledDescriptors(child.pid)).map((count, index) => count - before![index]!);
      assert(more! < MORE, `${more} descriptors more (seed ${SEED})`);
      assertEquals(await isOpen(source), true, `seed ${SEED}`);
    } finally {
      listener.close();
      await endChild(child);
    }
  });
}
