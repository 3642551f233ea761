// WSAEventSelect on a shared socket: one registration, whichever descriptor it was made through.
import { assertEquals } from "@std/assert";
import { ws2spi } from "@winsock/handoff/ffi";
import { defaultProvider } from "@winsock/handoff/spi";
import { FD, WSANETWORKEVENTS } from "@winsock/handoff/structs";
import { POLLIN, pollSync } from "../../ffi/unix/io.ts";
import { systemCalls } from "../../ffi/system.ts";
import { type Connection, connection, writeText } from "../kit/connections.ts";
import { until } from "../kit/process.ts";

const WSA_WAIT_TIMEOUT = 258;

/** A second descriptor of a connection's server end. */
async function duplicate(pair: Connection): Promise<bigint> {
  const provider = defaultProvider();
  return await provider.socket(provider.duplicateSocket(pair.server.handle, Deno.pid));
}

/** The events a descriptor has had for an event object. */
function eventsOf(s: bigint, event: bigint): number {
  const events = new Uint8Array(WSANETWORKEVENTS.size);
  assertEquals(ws2spi().WSAEnumNetworkEvents(s, event, events), 0);
  return WSANETWORKEVENTS.decode(events).lNetworkEvents;
}

const onWindows = { ignore: Deno.build.os !== "windows" };

/** A test with two event objects. */
async function withEvents(test: (first: bigint, second: bigint) => Promise<void>): Promise<void> {
  const events = [ws2spi().WSACreateEvent(), ws2spi().WSACreateEvent()] as const;
  try {
    await test(...events);
  } finally {
    for (const event of events) ws2spi().WSACloseEvent(event);
  }
}

Deno.test("an event registered through either descriptor of a shared socket is delivered", onWindows, async () => {
  await withEvents(async (event) => {
    for (const through of ["handle", "copy"]) {
      using pair = await connection();
      const copy = await duplicate(pair);
      const s = through === "copy" ? copy : pair.server.handle;
      assertEquals(ws2spi().WSAEventSelect(s, event, FD.FD_READ), 0);
      using client = pair.client.toConn();
      await writeText(client, "x");
      await until(() => (eventsOf(s, event) & FD.FD_READ) !== 0, "FD_READ is there");
      systemCalls().close(copy);
    }
  });
});

Deno.test(
  "WSAEventSelect through one descriptor cancels what another descriptor has registered",
  onWindows,
  async () => {
    await withEvents(async (reading, writing) => {
      using pair = await connection();
      const { handle } = pair.server;
      const copy = await duplicate(pair);
      // FD_READ for one and FD_WRITE for the other cannot be had: the second registration is the only one.
      assertEquals(ws2spi().WSAEventSelect(handle, reading, FD.FD_READ), 0);
      assertEquals(ws2spi().WSAEventSelect(copy, writing, FD.FD_WRITE), 0);
      await until(() => (eventsOf(copy, writing) & FD.FD_WRITE) !== 0, "FD_WRITE is there");
      using client = pair.client.toConn();
      await writeText(client, "x");
      // Asked for now, FD_READ is there for the copy: so it had come, and the first registration was not told.
      assertEquals(ws2spi().WSAEventSelect(copy, writing, FD.FD_WRITE | FD.FD_READ), 0);
      let events = 0;
      await until(() => ((events |= eventsOf(copy, writing)) & FD.FD_READ) !== 0, "FD_READ is there for the copy");
      assertEquals(ws2spi().WSAWaitForMultipleEvents(1, new BigUint64Array([reading]), 0, 0, 0), WSA_WAIT_TIMEOUT);
      systemCalls().close(copy);
    });
  },
);

Deno.test("poll on Linux registers nothing: both descriptors see the same byte", {
  ignore: Deno.build.os !== "linux",
}, async () => {
  using pair = await connection();
  const copy = await duplicate(pair);
  using client = pair.client.toConn();
  await writeText(client, "x");
  await until(() => pollSync(0, [pair.server.handle, POLLIN]) === 1, "the byte is there");
  assertEquals([pollSync(0, [copy, POLLIN]), pollSync(0, [pair.server.handle, POLLIN])], [1, 1]);
  systemCalls().close(copy);
});
