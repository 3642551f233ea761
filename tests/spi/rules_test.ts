// Rules of shared sockets that hold whichever provider is used.
import { assert, assertEquals } from "@std/assert";
import { duplicateSocket, LIBRARY_PATHS, openSocket } from "@winsock/handoff";
import { openLibrary } from "../../ffi/library.ts";
import { connection, readEnd, readText, writeText } from "../kit/connections.ts";
import { until, within } from "../kit/process.ts";

Deno.test("a descriptor is valid in every thread of its process: a Worker needs its number and no duplicate", async () => {
  using pair = await connection();
  using client = pair.client.toConn();
  const worker = new Worker(new URL("../children/thread.ts", import.meta.url), { type: "module" });
  try {
    const done = new Promise((resolve, reject) => {
      worker.onmessage = resolve;
      worker.onerror = (event) => {
        event.preventDefault();
        reject(new Error(event.message));
      };
    });
    worker.postMessage(pair.server.detach());
    await writeText(client, "hello");
    assertEquals(await readText(client, 21), "the thread read hello");
    await within(20_000, done);
    assert(await readEnd(client));
  } finally {
    worker.terminate();
  }
});

Deno.test("any descriptor may be used for I/O, and nothing but their users coordinates it", async () => {
  using pair = await connection();
  using duplicate = await openSocket(duplicateSocket(pair.server, Deno.pid));
  using client = pair.client.toConn();
  const descriptors = [pair.server.handle, duplicate.handle];
  // Written in turn through both, it is read as one stream.
  for (let turn = 0; turn < 3; turn++) {
    for (const s of descriptors) assertEquals(socketLibrary().send(s, new Uint8Array([turn]), 1, 0), 1);
  }
  assertEquals(await readText(client, 6), "\0\0\x01\x01\x02\x02");
  // What came is there for both, and a byte is read once, by whoever asks for it first.
  await writeText(client, "xy");
  const byte = new Uint8Array(1);
  for (const [index, s] of descriptors.entries()) {
    await until(() => socketLibrary().recv(s, byte, 1, MSG_PEEK) === 1, "a byte is there");
    assertEquals([socketLibrary().recv(s, byte, 1, 0), byte[0]], [1, "xy".charCodeAt(index)]);
  }
});

const MSG_PEEK = 2;

/** The calls themselves: one process's event loop must not drive two descriptors of one socket. */
function socketLibrary() {
  return openLibrary([LIBRARY_PATHS[0]!], {
    send: { parameters: ["usize", "buffer", "i32", "i32"], result: "i32" },
    recv: { parameters: ["usize", "buffer", "i32", "i32"], result: "i32" },
  });
}
