// A descriptor is closed by what has made it, and given up once it is closed.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  connect,
  duplicateSocket,
  INVALID_SOCKET,
  listen,
  listenDatagram,
  Listener,
  openSocket,
  Socket,
  WinsockError,
} from "@winsock/handoff";
import { defaultProvider, MemoryProvider, type ServiceProvider, useProvider } from "@winsock/handoff/spi";
import { systemCalls } from "../../ffi/system.ts";
import { Descriptor, isOwned } from "../../sockets/descriptor.ts";
import { nonIfsChain } from "../kit/chains.ts";
import { connection, readText, writeText } from "../kit/connections.ts";
import { assertNothingLeaks } from "../kit/leaks.ts";
import { within } from "../kit/process.ts";

/** The system's provider, which counts what it closes. */
function counting(): ServiceProvider & { closed: bigint[] } {
  const next = defaultProvider();
  const closed: bigint[] = [];
  return {
    closed,
    protocolInfo: next.protocolInfo,
    duplicateSocket: (s, processId) => next.duplicateSocket(s, processId),
    socket: (info, flags) => next.socket(info, flags),
    withdraw: (info) => next.withdraw(info),
    closeSocket(s) {
      closed.push(s);
      next.closeSocket(s);
    },
  };
}

Deno.test("with a layer in force whose descriptors are its own, what the system makes is used and closed", async () => {
  using _ = useProvider(nonIfsChain(1).provider);
  await assertNothingLeaks(async () => {
    listen({ hostname: "127.0.0.1", port: 0 }).close();
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    const accepting = listener.accept();
    const client = await connect({ port: listener.addr.port });
    const server = await within(20_000, accepting);
    using datagrams = listenDatagram({ hostname: "127.0.0.1", port: 0 });
    assertEquals(datagrams.addr.transport, "udp");
    using conn = client.toConn();
    await writeText(conn, "hello");
    assertEquals(new TextDecoder().decode(await server.read(5) ?? undefined), "hello");
    server.close();
    const pending = assertRejects(() => listener.accept(), Deno.errors.BadResource);
    await new Promise((resolve) => setTimeout(resolve, 0));
    listener.close();
    await within(20_000, pending);
    await assertRejects(
      () => connect({ port: 1, hostname: "127.0.0.1" }),
      Deno.errors.ConnectionRefused,
      "WSAECONNREFUSED",
    );
  });
});

Deno.test("with such a layer in force, a descriptor somebody names is closed, too", () => {
  const named = listen({ hostname: "127.0.0.1", port: 0 }).detach();
  using _ = useProvider(nonIfsChain(1).provider);
  Listener.fromHandle(named).close();
  assertThrows(() => Listener.fromHandle(named), WinsockError, "WSAENOTSOCK");
});

Deno.test("what a provider has opened it closes, also when another is in force by then; nothing else", async () => {
  const first = counting();
  let opened: [Socket, Listener];
  {
    using _ = useProvider(first);
    using pair = await connection();
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    opened = [
      await openSocket(duplicateSocket(pair.server, Deno.pid)) as Socket,
      await openSocket(duplicateSocket(listener, Deno.pid)) as Listener,
    ];
    using client = pair.client.toConn();
    await writeText(client, "hello");
    using copy = (await openSocket(duplicateSocket(opened[0], Deno.pid)) as Socket).toConn();
    assertEquals(await readText(copy, 5), "hello");
  }
  assertEquals(first.closed, []);
  const second = counting();
  using _ = useProvider(second);
  const handles = opened.map(({ handle }) => handle);
  const accepting = assertRejects(() => opened[1].accept(), Deno.errors.BadResource);
  await new Promise((resolve) => setTimeout(resolve, 0));
  for (const socket of opened) socket.close();
  await within(20_000, accepting);
  await opened[1].pause();
  assertEquals([first.closed.toSorted(), second.closed], [handles.toSorted(), []]);
});

Deno.test("a socket that cannot be closed now stays its object's, and can be closed later", async () => {
  const provider = new MemoryProvider();
  using _ = useProvider(provider);
  using pair = await connection();
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  for (const original of [pair.server, listener]) {
    const socket = await openSocket(duplicateSocket(original, Deno.pid));
    const { handle } = socket;
    if (socket instanceof Listener) {
      const accepting = socket.accept().catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, 0));
      if (Deno.build.os === "windows") {
        // There a thread is in accept, which closes it later.
        socket.close();
        await accepting;
        continue;
      }
    }
    provider.fail("closeSocket", "WSAEWOULDBLOCK");
    assertThrows(() => socket.close(), WinsockError, "WSAEWOULDBLOCK");
    assertEquals(socket.handle, handle);
    assert("port" in (socket instanceof Listener ? socket.addr : (socket as Socket).localAddr));
    socket.close();
    assert(socket.handle !== handle);
    assertThrows(() => Socket.fromHandle(handle), WinsockError, "WSAENOTSOCK");
  }
});

Deno.test("a socket that was closed behind its object's back is nobody's any more", async () => {
  using pair = await connection();
  const { handle } = pair.server;
  defaultProvider().closeSocket(handle);
  assertThrows(() => pair.server.close(), WinsockError, "WSAENOTSOCK");
  using other = await connection();
  pair.server.close();
  using client = other.client.toConn();
  await writeText(client, "hello");
  assertEquals(new TextDecoder().decode(await other.server.read(5) ?? undefined), "hello");
});

Deno.test("a descriptor that is closed as soon as nothing uses it is its object's until then, and if that fails", async () => {
  await assertNothingLeaks(async () => {
    const handle = systemCalls().open("127.0.0.1");
    let broken = true;
    const descriptor = Descriptor.own(handle, {
      closeSocket(s) {
        if (broken) throw new Error("not now");
        systemCalls().close(s);
      },
    });
    const unused = Promise.withResolvers<void>();
    descriptor.close(unused.promise);
    assertEquals([descriptor.handle, descriptor.open, isOwned(handle)], [INVALID_SOCKET, false, true]);
    assertEquals(descriptor.release(), INVALID_SOCKET);
    unused.resolve();
    await descriptor.closing;
    assertEquals([descriptor.handle, descriptor.open, isOwned(handle)], [handle, true, true]);
    broken = false;
    descriptor.close(Promise.resolve());
    await descriptor.closing;
    assertEquals([descriptor.handle, isOwned(handle)], [INVALID_SOCKET, false]);
    assertThrows(() => systemCalls().assertSocket(handle, "use it"), WinsockError, "WSAENOTSOCK");
  });
});
