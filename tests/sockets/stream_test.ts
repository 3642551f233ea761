// What a connection as a stream can do, by both paths and over both families.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { createHash } from "node:crypto";
import { connection, readEnd, readText, writeAll, writeText } from "../kit/connections.ts";
import { assertNothingLeaks } from "../kit/leaks.ts";
import { until, within } from "../kit/process.ts";
import { STREAM_CASES } from "../kit/streams.ts";

const MiB = 1024 ** 2;
/** Under Wine all of it takes some minutes, and only `deno task streams:windows` does. */
const FULL = Deno.build.os !== "windows" || Deno.args.includes("full");
const ECHOED = FULL ? 1024 * MiB : 32 * MiB;
const CONNECTIONS = FULL ? 1_000 : 100;

async function echo(conn: Deno.Conn): Promise<void> {
  const buffer = new Uint8Array(MiB / 4);
  for (let length; (length = await conn.read(buffer)) !== null;) await writeAll(conn, buffer.subarray(0, length));
}

async function writeForEver(conn: Deno.Conn): Promise<void> {
  for (;;) await conn.write(new Uint8Array(MiB));
}

/** Reads to the end, or so much. */
async function readBytes(conn: Deno.Conn, most = Infinity): Promise<number> {
  const buffer = new Uint8Array(MiB / 4);
  let total = 0;
  while (total < most) {
    const length = await conn.read(buffer);
    if (length === null) break;
    total += length;
  }
  return total;
}

for (const { name, native, hostname, pair, pairs } of STREAM_CASES) {
  Deno.test(`${name}: what is echoed is what was sent, ${ECHOED / MiB} MiB of it`, async () => {
    using conns = await pair();
    const { client, server } = conns;
    const echoing = echo(server).then(() => server.closeWrite());
    const [sent, received] = [createHash("sha256"), createHash("sha256")];
    const writing = (async () => {
      const block = crypto.getRandomValues(new Uint8Array(65_536));
      const bytes = new Uint8Array(MiB);
      for (let offset = 0; offset < MiB; offset += block.length) bytes.set(block, offset);
      for (let total = 0; total < ECHOED; total += MiB) {
        new DataView(bytes.buffer).setUint32(total / MiB, total);
        sent.update(bytes);
        await writeAll(client, bytes);
      }
      await client.closeWrite();
    })();
    const buffer = new Uint8Array(MiB / 4);
    let total = 0;
    for (let length; (length = await client.read(buffer)) !== null; total += length) {
      received.update(buffer.subarray(0, length));
    }
    await Promise.all([writing, echoing]);
    assertEquals(total, ECHOED);
    assertEquals(received.digest("hex"), sent.digest("hex"));
  });

  Deno.test(`${name}: ${CONNECTIONS} connections at once, each answered with its own`, async () => {
    const all = await pairs(CONNECTIONS);
    try {
      const echoing = Promise.all(all.map(({ server }) => echo(server)));
      // Where anything fails before it is waited for, that is the failure to tell.
      echoing.catch(() => {});
      for (let round = 0; round < 2; round++) {
        await Promise.all(all.map(async ({ client }, index) => {
          const text = `${index}`.padStart(8, "0").repeat(32);
          await writeText(client, text);
          assertEquals(await readText(client, text.length), text);
        }));
      }
      await Promise.all(all.map(({ client }) => client.closeWrite()));
      await within(20_000, echoing);
    } finally {
      for (const conns of all) conns[Symbol.dispose]();
    }
  });

  Deno.test(`${name}: each side ends by itself, and the other goes on`, async () => {
    using conns = await pair();
    const { client, server } = conns;
    await writeText(client, "question");
    await client.closeWrite();
    assertEquals(await readText(server, 8), "question");
    assert(await readEnd(server));
    assert(await readEnd(server), "the end stays");
    await writeText(server, "answer");
    assertEquals(await readText(client, 6), "answer");
    await assertRejects(() => client.write(new Uint8Array(1)), Deno.errors.BrokenPipe);
    await server.closeWrite();
    assert(await readEnd(client));
  });

  Deno.test(`${name}: a reset is told as one, to who waits and to who comes later`, async () => {
    using sockets = await connection(hostname);
    using client = sockets.client.toConn({ native });
    const told = assertRejects(() => within(10_000, client.read(new Uint8Array(1))), Error);
    await new Promise((resolve) => setTimeout(resolve, 20));
    sockets.server.setOption("SO_LINGER", 0);
    sockets.server.close();
    const error = await told;
    assert(
      error instanceof Deno.errors.ConnectionReset || error instanceof Deno.errors.ConnectionAborted,
      `${error}`,
    );
    await assertRejects(() => client.read(new Uint8Array(1)), Error);
    await assertRejects(() => client.write(new Uint8Array(1)), Error);
  });

  Deno.test(`${name}: a write that waits is told of a reset`, async () => {
    using sockets = await connection(hostname);
    using client = sockets.client.toConn({ native });
    const told = assertRejects(() => writeForEver(client), Error);
    await new Promise((resolve) => setTimeout(resolve, 100));
    sockets.server.setOption("SO_LINGER", 0);
    sockets.server.close();
    const error = await within(10_000, told);
    assert(!(error instanceof Deno.errors.BadResource), `${error}`);
    const later = await assertRejects(() => client.read(new Uint8Array(1)), Error);
    assert(!(later instanceof Deno.errors.BadResource), `${later}`);
  });

  Deno.test(`${name}: a slow reader holds the writer, and loses nothing`, async () => {
    using conns = await pair();
    const { client, server } = conns;
    let written = 0;
    const writing = (async () => {
      for (let count = 0; count < 64; count++) {
        await writeAll(server, new Uint8Array(MiB));
        written++;
      }
      await server.closeWrite();
    })();
    let before = -1;
    await until(async () => {
      const same = before === written;
      before = written;
      await new Promise((resolve) => setTimeout(resolve, 100));
      return same;
    }, "the writer waits");
    assert(written < 40, `${written} MiB were written and nobody read`);
    const first = await readBytes(client, 8 * MiB);
    await until(() => written > before, "the writer goes on");
    assertEquals(first + await readBytes(client), 64 * MiB);
    await writing;
  });

  Deno.test(`${name}: closing in the middle of a transfer ends what waits, here and there`, async () => {
    using conns = await pair();
    const { client, server } = conns;
    // Between two writes none waits, and the next one is refused.
    const writing = assertRejects(() => writeForEver(server), Error);
    const reading = assertRejects(() => server.read(new Uint8Array(1)), Deno.errors.Interrupted);
    await readBytes(client, MiB);
    server.close();
    const [error] = await within(10_000, Promise.all([writing, reading]));
    assert(error instanceof Deno.errors.Interrupted || error instanceof Deno.errors.BadResource, `${error}`);
    // What had been sent may still be read; then it is over.
    await within(10_000, readBytes(client).catch(() => 0));
    await assertRejects(() => server.write(new Uint8Array(1)), Deno.errors.BadResource);
  });

  Deno.test(`${name}: nothing written is nothing, and read into nothing too`, async () => {
    using conns = await pair();
    const { client, server } = conns;
    assertEquals(await client.write(new Uint8Array(0)), 0);
    assertEquals(await server.read(new Uint8Array(0)), 0);
    await writeText(client, "a");
    assertEquals(await client.write(new Uint8Array(0)), 0);
    await writeText(client, "b");
    assertEquals(await readText(server, 2), "ab");
    const writer = client.writable.getWriter();
    await writer.write(new Uint8Array(0));
    await writer.write(new TextEncoder().encode("c"));
    await writer.close();
    const chunks = await Array.fromAsync(server.readable);
    assertEquals(chunks.map((chunk) => new TextDecoder().decode(chunk)), ["c"]);
  });

  Deno.test(`${name}: nothing is left behind`, async () => {
    await assertNothingLeaks(async () => {
      using conns = await pair();
      const { client, server } = conns;
      const waiting = client.read(new Uint8Array(1)).catch(() => {});
      await writeText(client, "x");
      assertEquals(await readText(server, 1), "x");
      server.close();
      await waiting;
    });
  });
}
