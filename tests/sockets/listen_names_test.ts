// Names of hosts in listen, listenDatagram and the destinations of datagrams: as Deno has them, under the ffi grant alone.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { connect, inherit, listen, listenDatagram, WinsockError } from "@winsock/handoff";
import { receiveText } from "../kit/datagrams.ts";
import { assertNothingLeaks } from "../kit/leaks.ts";
import { FFI_GRANT, within } from "../kit/process.ts";
import { moduleUrl, runCode } from "../kit/run.ts";

/** Names that are looked up, and need no name server; and one that needs no lookup. */
const NAMES = ["127.1", "0x7f000001", "2130706433", "localhost"];

for (const hostname of NAMES) {
  Deno.test(`a listener and a datagram socket are at the first address of a name, as Deno's are: ${hostname}`, async () => {
    using listener = listen({ hostname, port: 0 });
    assertEquals(listener.addr.hostname, "127.0.0.1");
    // Wine does not know the name localhost, which Deno looks up.
    if (hostname !== "localhost" || Deno.build.os !== "windows") {
      using deno = Deno.listen({ hostname, port: 0 });
      assertEquals(listener.addr.hostname, deno.addr.hostname);
    }
    using client = await connect({ hostname, port: listener.addr.port });
    (await within(5_000, listener.accept())).close();
    assertEquals(await within(5_000, client.read(1)), null);
    using socket = listenDatagram({ hostname, port: 0 });
    assertEquals(socket.addr.hostname, "127.0.0.1");
    using sender = listenDatagram({ hostname: "127.0.0.1", port: 0 });
    const { port } = socket.addr;
    assertEquals(await sender.send(new TextEncoder().encode("hello"), { transport: "udp", hostname, port }), 5);
    assertEquals((await within(5_000, receiveText(socket)))[0], "hello");
  });
}

Deno.test("a name that nobody knows is an error that says so, as with connect", async () => {
  using socket = listenDatagram({ hostname: "127.0.0.1", port: 0 });
  const addr = { transport: "udp", hostname: "nobody.invalid", port: 1 } as const;
  const errors = [
    assertThrows(() => listen({ hostname: "nobody.invalid" }), WinsockError),
    assertThrows(() => listenDatagram({ hostname: "nobody.invalid" }), WinsockError),
    await assertRejects(() => within(60_000, socket.send(new Uint8Array(1), addr)), WinsockError),
  ];
  for (const error of errors) {
    assert(["WSAHOST_NOT_FOUND", "WSATRY_AGAIN", "WSANO_DATA"].includes(error.codeName), error.message);
    assert(error.message.startsWith('Cannot resolve the name "nobody.invalid": '), error.message);
  }
  for (const hostname of ["", "a\0b"]) {
    assertThrows(() => listen({ hostname }), TypeError, "Invalid `hostname`: must be a name or an IP address");
    await assertRejects(() => socket.send(new Uint8Array(1), { ...addr, hostname }), TypeError, "Invalid `hostname`");
  }
});

Deno.test("names are looked up under the ffi grant alone", async () => {
  const code = `
    import { listen, listenDatagram } from ${moduleUrl("mod.ts")};
    using listener = listen({ hostname: "127.1" });
    using socket = listenDatagram({ hostname: "127.1" });
    console.log(listener.addr.hostname, socket.addr.hostname);`;
  assertEquals((await runCode(code, FFI_GRANT)).trim(), "127.0.0.1 127.0.0.1");
});

Deno.test("a datagram socket on :: sends to a name of an IPv4 address", async () => {
  using socket = listenDatagram({ hostname: "127.0.0.1", port: 0 });
  using sender = listenDatagram({ hostname: "::", port: 0 });
  const { port } = socket.addr;
  await within(10_000, sender.send(new TextEncoder().encode("six"), { transport: "udp", hostname: "127.1", port }));
  assertEquals((await within(5_000, receiveText(socket)))[0], "six");
});

Deno.test("lookups leave nothing open", async () => {
  await assertNothingLeaks(() => {
    listen({ hostname: "127.1" }).close();
    assertThrows(() => listen({ hostname: "127.1", ipv6Only: true }), TypeError, "must be with an IPv6 address");
    return Promise.resolve();
  });
});

Deno.test("a version of a server can have a name as its address", async () => {
  using version = await inherit({ predecessor: 0, onAddressChange: "error" });
  assertEquals(version.listen("http", { hostname: "127.1", port: 0 }).addr.hostname, "127.0.0.1");
});
