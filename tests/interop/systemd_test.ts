// systemd's socket activation, with the real systemd-socket-activate and real children.
import { assert, assertEquals, assertNotEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { createSocket } from "node:dgram";
import {
  type AnySocket,
  connect,
  inherit as inheritedVersion,
  listen,
  listenDatagram,
  Socket,
  WinsockError,
} from "@winsock/handoff";
import { libc } from "@winsock/handoff/ffi";
import { PassedSockets, systemdSockets } from "@winsock/handoff/interop";
import { connection, readText, writeText } from "../kit/connections.ts";
import { datagramSocket, receiveText, sendText } from "../kit/datagrams.ts";
import { countDescriptors } from "../kit/descriptors.ts";
import { systemCalls } from "../../ffi/system.ts";
import { fcntl } from "../../ffi/unix/descriptors.ts";
import { needs } from "../kit/needs.ts";
import { FFI_GRANT, RUN, until, within } from "../kit/process.ts";
import { EXAMPLE, EXAMPLE_ENV_GRANT, haveProgram } from "../kit/programs.ts";

type ErrorClass = Parameters<typeof assertThrows>[1];

const withSystemd = needs("systemd");
const REPORT = new URL("../children/report_passed.ts", import.meta.url).href;

/** A copy of a socket's descriptor that belongs to nobody yet, as after exec. */
function inherit(socket: AnySocket): bigint {
  return BigInt(fcntl(socket.handle, 0, 100));
}

/** The environment of a process that was passed `count` descriptors from `first` on. */
function environment(count: number | string, first: bigint | number, more: Record<string, string> = {}) {
  return new Map(Object.entries({
    LISTEN_PID: `${Deno.pid}`,
    LISTEN_FDS: `${count}`,
    LISTEN_FDS_FIRST_FD: `${first}`,
    ...more,
  }));
}

function closesOnExec(handle: bigint): boolean {
  return fcntl(handle, 1) === 1;
}

function freePort(): number {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

Deno.test("an environment without sockets is no error", () => {
  for (const env of [[], [["LISTEN_FDS", ""]], [["LISTEN_FDS", "0"], ["LISTEN_FDNAMES", ""]]] as [string, string][][]) {
    using passed = systemdSockets({ env: new Map(env) });
    assertEquals([passed.length, passed.take(0), passed.take("web")], [0, undefined, undefined]);
  }
});

Deno.test("sockets for another process are left alone", () => {
  for (
    const variables of [{ LISTEN_FDS: "1" }, { LISTEN_FDS: "many" }, { LISTEN_FDS: "1", LISTEN_FDS_FIRST_FD: "x" }]
  ) {
    const env = new Map(Object.entries({ LISTEN_PID: `${Deno.pid + 1}`, ...variables }));
    const before = new Map(env);
    assertEquals(systemdSockets({ env }).length, 0);
    assertEquals(systemdSockets({ env, processId: Deno.pid + 2 }).length, 0);
    assertEquals(env, before);
  }
});

Deno.test("descriptors from anywhere are passed sockets, each of its kind, and are taken once", async () => {
  const web = listen({ hostname: "127.0.0.1", port: 0 });
  const dns = listenDatagram({ hostname: "127.0.0.1", port: 0 });
  const pair = await connection();
  using client = pair.client.toConn();
  const [webAddr, dnsAddr] = [web.addr, dns.addr];
  using passed = new PassedSockets([
    { name: "web", handle: web.detach() },
    { name: "dns", handle: dns.detach() },
    { name: "peer", handle: pair.server.detach() },
  ]);
  const kinds = ["web", "dns", "peer"].map((name) => passed.inspect(name)?.kind);
  assertEquals(kinds, ["listener", "datagram", "connection"]);
  const listeners = passed.takeListeners("web");
  using datagrams = passed.takeDatagramSocket("dns");
  using peer = passed.takeSocket("peer");
  assertEquals([listeners.map(({ addr }) => addr), datagrams?.addr], [[webAddr], dnsAddr]);
  assertEquals([passed.takeSocket("peer"), passed.takeListeners("web")], [undefined, []]);
  for (const listener of listeners) listener.close();
  using conn = peer!.toConn();
  await writeText(client, "hello");
  assertEquals(await readText(conn, 5), "hello");
});

Deno.test({
  name: "sockets for a process of another number are taken by whoever is that, as in a container",
  ...withSystemd,
  fn: () => {
    using web = listen({ hostname: "127.0.0.1", port: 0 });
    const env = environment(1, inherit(web), { LISTEN_PID: "7" });
    assertEquals(systemdSockets({ env, processId: 8 }).length, 0);
    using passed = systemdSockets({ env, processId: 7 });
    using taken = passed.takeListener(0);
    assertEquals(taken?.addr, web.addr);
  },
});

Deno.test({
  name: "sockets are taken once, by position or name, and no longer inherited",
  ...withSystemd,
  fn: async () => {
    using web = listen({ hostname: "127.0.0.1", port: 0 });
    const handle = inherit(web);
    assert(!closesOnExec(handle));
    const env = environment(1, handle, { LISTEN_FDNAMES: "web" });
    const passed = systemdSockets({ env });
    assertEquals([passed.length, passed.names, env.size], [1, ["web"], 0]);
    assertEquals(systemdSockets({ env }).length, 0);
    assert(closesOnExec(handle));
    assertEquals(passed.takeListener("admin"), undefined);
    assertEquals(passed.takeListener(7), undefined);
    using taken = passed.takeListener("web");
    assertEquals([taken?.handle, taken?.addr], [handle, web.addr]);
    assertEquals([passed.takeListener("web"), passed.takeListener(0), passed.take(0)], [
      undefined,
      undefined,
      undefined,
    ]);
    passed.close();
    const { port } = web.addr;
    web.close();
    using client = await connect({ port });
    using server = await within(10_000, taken!.accept());
    assertEquals(server.remoteAddr, client.localAddr);
  },
});

Deno.test({
  name: "without a process id the sockets are for whoever finds them, as with systemfd --no-pid",
  ...withSystemd,
  fn: () => {
    using web = listen({ hostname: "127.0.0.1", port: 0 });
    for (const empty of [true, false]) {
      const env = environment(1, inherit(web), { LISTEN_PID: "" });
      if (!empty) env.delete("LISTEN_PID");
      using passed = systemdSockets({ env });
      using taken = passed.takeListener(0);
      assertEquals(taken?.addr, web.addr);
    }
  },
});

Deno.test({
  name: "an error leaves a passed socket in its place",
  ...withSystemd,
  fn: async () => {
    {
      // What waits for sockets that others may use too is made once, and stays.
      using pair = await connection();
      using _conn = pair.client.toConn({ native: false });
    }
    const before = countDescriptors();
    {
      using pair = await connection();
      const handle = inherit(pair.server);
      using passed = systemdSockets({ env: environment(1, handle) });
      assertEquals(passed.names, ["unknown"]);
      assertThrows(() => passed.takeListener(0), TypeError, `Cannot take over socket ${handle}: it is a connection`);
      assertThrows(() => passed.takeListener("unknown"), TypeError);
      assertThrows(() => passed.takeListeners("unknown"), TypeError);
      using taken = passed.take(0);
      assert(taken instanceof Socket);
      using conn = taken.toConn();
      using client = pair.client.toConn();
      await writeText(client, "ping");
      assertEquals(await readText(conn, 4), "ping");
    }
    {
      using dns = datagramSocket();
      using web = listen({ hostname: "127.0.0.1", port: 0 });
      const [datagram, listener] = [inherit(dns), inherit(web)];
      const locals = [1, 2].map((type) => BigInt(libc().socket(1, type, 0)));
      using passed = new PassedSockets([
        { name: "dns", handle: datagram },
        { name: "web", handle: listener },
        ...locals.map((handle, index) => ({ name: index === 0 ? "local" : "datagrams", handle })),
      ]);
      const [stream] = locals;
      const notTcp = `Cannot take over socket ${datagram}: it is a datagram`;
      assertThrows(() => passed.takeListener("dns"), TypeError, notTcp);
      assertThrows(() => passed.takeSocket("dns"), TypeError, notTcp);
      assertThrows(() => passed.takeDatagramSocket("web"), TypeError, `socket ${listener}: it is a listener`);
      // A local stream socket that is neither listening nor connected.
      assertThrows(
        () => passed.takeListener("local"),
        TypeError,
        `socket ${stream}: it is a connection, not a listener`,
      );
      assertThrows(() => passed.takeDatagramSocket("local"), TypeError, "it is a connection, not a datagram socket");
      for (const take of ["take", "takeSocket"] as const) {
        assertThrows(() => passed[take]("local"), TypeError, `Cannot take over socket ${stream}: it is not connected`);
      }
      using local = passed.takeDatagramSocket<Deno.UnixAddr>(3)!;
      assertEquals(local.addr, { transport: "unixpacket", path: "" });
      assertEquals(passed.takeHandle("dns"), datagram);
      assertEquals(libc().close(datagram), 0);
    }
    {
      const handle = systemCalls().open("127.0.0.1");
      using passed = new PassedSockets([{ name: "web", handle }]);
      const message = `Cannot take over socket ${handle}: it is not connected`;
      assertThrows(() => passed.takeSocket("web"), TypeError, message);
      assertThrows(() => passed.take(0), TypeError, message);
      assertEquals(passed.takeHandle(0), handle);
      assertEquals(libc().close(handle), 0);
    }
    assertEquals(countDescriptors(), before);
  },
});

Deno.test({
  name: "local sockets of every type are taken by name, and their files stay",
  ...withSystemd,
  fn: async () => {
    const directory = await Deno.makeTempDir();
    const path = (name: string) => `${directory}/${name}`;
    using http = listen({ path: path("http") });
    using messages = listen({ path: path("messages"), type: "seqpacket" });
    using log = listenDatagram({ transport: "unixpacket", path: path("log") });
    const [near, far] = Socket.pair();
    using passed = new PassedSockets(
      Object.entries({ http, messages, log, near }).map(([name, socket]) => ({ name, handle: inherit(socket) })),
    );
    assertEquals([0, 1, 2, 3].map((which) => passed.inspect(which)), [
      { kind: "listener", keepsMessages: false, addr: http.addr },
      { kind: "listener", keepsMessages: true, addr: messages.addr },
      { kind: "datagram", keepsMessages: false, addr: log.addr },
      { kind: "connection", keepsMessages: false, addr: near.localAddr },
    ]);
    for (const socket of [http, messages, log, near]) libc().close(socket.detach());
    {
      using listener = passed.takeListener<Deno.UnixAddr>("http")!;
      using client = (await connect({ path: path("http") })).toConn();
      using server = (await within(10_000, listener.accept())).toConn();
      await writeText(client, "ping");
      assertEquals(await readText(server, 4), "ping");
    }
    {
      using listener = passed.takeListener<Deno.UnixAddr>("messages")!;
      using client = (await connect({ path: path("messages"), type: "seqpacket" })).toConn();
      using accepted = await within(10_000, listener.accept());
      for (const text of ["one", "two"]) await writeText(client, text);
      assertEquals(await accepted.read(10), new TextEncoder().encode("one"));
    }
    {
      using socket = passed.takeDatagramSocket<Deno.UnixAddr>("log")!;
      using client = listenDatagram({ transport: "unixpacket", path: path("client") });
      await client.send(new TextEncoder().encode("line"), socket.addr);
      assertEquals((await within(10_000, socket.receive()))[1], client.addr);
    }
    using conn = passed.takeSocket<Deno.UnixAddr>("near")!.toConn();
    await writeText(conn, "pong");
    assertEquals(await far.read(10), new TextEncoder().encode("pong"));
    far.close();
    assertEquals([0, "http", 9].map((which) => passed.inspect(which)), [undefined, undefined, undefined]);
    // They are the manager's, which made them.
    for (const name of ["http", "messages", "log"]) assert((await Deno.lstat(path(name))).isSocket);
    await Deno.remove(directory, { recursive: true });
  },
});

Deno.test({
  name: "several sockets of a unit under one name are all taken, and closed with the rest if not",
  ...withSystemd,
  fn: () => {
    const before = countDescriptors();
    {
      using v4 = listen({ hostname: "127.0.0.1" });
      using v6 = listen({ hostname: "::1" });
      using dns = datagramSocket();
      const LISTEN_FDNAMES = "web:web:web";
      for (const take of [true, false]) {
        // Descriptors that follow each other, as systemd passes them.
        const first = BigInt(fcntl(v4.handle, 0, 200));
        assertEquals([fcntl(v6.handle, 0, 200), fcntl(v4.handle, 0, 200)], [Number(first) + 1, Number(first) + 2]);
        using passed = systemdSockets({ env: environment(3, first, { LISTEN_FDNAMES }) });
        if (!take) continue;
        const listeners = passed.takeListeners("web");
        assertEquals(listeners.map(({ addr }) => addr), [v4.addr, v6.addr, v4.addr]);
        assertEquals(passed.takeListeners("web"), []);
        for (const listener of listeners) listener.close();
      }
      // Of several with one name, each is found by its kind, in whichever order they are.
      const handles = [v4, dns, v6].map(inherit);
      using passed = new PassedSockets(handles.map((handle) => ({ name: "web", handle })));
      using taken = passed.takeDatagramSocket("web")!;
      assertEquals(taken.addr, dns.addr);
      assertThrows(() => passed.takeDatagramSocket("web"), TypeError, "it is a listener");
      const listeners = passed.takeListeners("web");
      assertEquals(listeners.map(({ addr }) => addr), [v4.addr, v6.addr]);
      for (const listener of listeners) listener.close();
      using others = new PassedSockets([v4, dns].map((socket) => ({ name: "web", handle: inherit(socket) })));
      const [only, ...more] = others.takeListeners("web");
      assertEquals([only!.addr, more.length], [v4.addr, 0], "the datagram socket stays in its place");
      only!.close();
      assertThrows(() => others.takeListeners("web"), TypeError, "it is a datagram");
    }
    assertEquals(countDescriptors(), before);
  },
});

Deno.test({
  name: "a version of a server takes all sockets with one name, and closes those that it does not take",
  ...withSystemd,
  fn: async () => {
    using v4 = listen({ hostname: "127.0.0.1", port: 0 });
    using v6 = listen({ hostname: "::1", port: 0 });
    using dns = datagramSocket();
    const nowhere = { hostname: "127.0.0.1", port: v4.addr.port };
    const addresses = (sockets: readonly AnySocket[]) => sockets.map((socket) => (socket as typeof v4).addr);
    const start = async () => {
      const sockets = new PassedSockets([v4, dns, v6, dns].map((each) => ({ name: "web", handle: inherit(each) })));
      return { sockets, version: await inheritedVersion({ predecessor: 0, sockets }) };
    };
    const left = (sockets: PassedSockets) => [0, 1, 2, 3].filter((at) => sockets.inspect(at) !== undefined);
    const before = countDescriptors();
    {
      const { sockets, version } = await start();
      using _version = version;
      const listeners = [version.listen("web", nowhere), version.listen("web", nowhere)];
      const datagrams = [version.listenDatagram("web", nowhere), version.listenDatagram("web", nowhere)];
      assertEquals(addresses([...listeners, ...datagrams]), addresses([v4, v6, dns, dns]));
      assertThrows(() => version.listen("web", nowhere), TypeError, 'Cannot take listener "web": it was taken already');
      assertThrows(() => version.listenDatagram("web", nowhere), TypeError, "it was taken already");
      assertEquals(left(sockets), []);
    }
    {
      const { sockets, version } = await start();
      using _version = version;
      assertEquals(addresses(version.takeListeners("web")), addresses([v4, v6]));
      assertEquals(left(sockets), [1, 3]);
      assertEquals(addresses(version.takeDatagramSockets("web")), addresses([dns, dns]));
      assertEquals([...version.takeListeners("web"), ...version.takeDatagramSockets("web")], []);
      assertEquals(version.takeListeners("other"), []);
    }
    {
      const { sockets, version } = await start();
      using _version = version;
      assertEquals(version.listen("web", nowhere).addr, v4.addr);
      assertEquals(left(sockets), [1, 2, 3]);
      await version.markReady();
      assertEquals(left(sockets), [], "what is not taken is closed");
    }
    for (const end of ["refuse", "dispose"]) {
      const { sockets, version } = await start();
      if (end === "refuse") await version.refuse("not today");
      else version[Symbol.dispose]();
      assertEquals(left(sockets), []);
    }
    await until(() => countDescriptors() <= before, "nothing is left open");
  },
});

Deno.test({
  name: "a name that no unit has set is an error that says how to set it",
  ...withSystemd,
  fn: () => {
    using web = listen({ hostname: "127.0.0.1" });
    const passed = (name: string) => new PassedSockets([{ name, handle: inherit(web) }]);
    for (const name of ["web.socket", "unknown"]) {
      using sockets = passed(name);
      for (const take of ["take", "takeListener", "takeSocket", "takeDatagramSocket"] as const) {
        const message = `Cannot take over the socket "web": no socket has that name, only "${name}". ` +
          "Set FileDescriptorName=web in the unit, or take it by its position";
        assertThrows(() => sockets[take]("web"), TypeError, message);
      }
      assertEquals(sockets.takeHandle("web"), undefined);
      using listener = sockets.takeListener(name)!;
      assertEquals(listener.addr, web.addr);
      assertEquals(sockets.takeListener(name), undefined);
    }
    using named = passed("http");
    assertEquals(named.takeListener("admin"), undefined);
  },
});

Deno.test({
  name: "a datagram socket is taken as one, by a version of a server too",
  ...withSystemd,
  fn: async () => {
    using echo = datagramSocket();
    using dns = datagramSocket();
    using passed = new PassedSockets([
      { name: "echo", handle: inherit(echo) },
      { name: "dns", handle: inherit(dns) },
    ]);
    const [{ addr }, { addr: dnsAddr }] = [echo, dns];
    for (const socket of [echo, dns]) socket.close();
    using version = await inheritedVersion({ predecessor: 0, sockets: passed });
    const options = { hostname: "127.0.0.1", port: 0 };
    const served = version.listenDatagram("echo", options);
    using taken = passed.takeDatagramSocket("dns")!;
    assertEquals([served.addr, taken.addr, passed.takeDatagramSocket(0)], [addr, dnsAddr, undefined]);
    assertNotEquals(version.listenDatagram("other", options).addr, addr);
    await version.markReady();
    await sendText(taken, "hello", addr);
    assertEquals((await receiveText(served))[0], "hello");
  },
});

Deno.test({
  name: "a variable that may not be removed leaves all as it was",
  ...withSystemd,
  fn: () => {
    class Guarded extends Map<string, string> {
      #check(name: string): void {
        if (name === "LISTEN_PIDFDID") throw new Deno.errors.NotCapable(`Requires env access to "${name}"`);
      }
      override get(name: string): string | undefined {
        this.#check(name);
        return super.get(name);
      }
      override delete(name: string): boolean {
        this.#check(name);
        return super.delete(name);
      }
    }
    using web = listen({ hostname: "127.0.0.1", port: 0 });
    const handle = inherit(web);
    const env = new Guarded(environment(1, handle));
    const before = [...env];
    assertThrows(() => systemdSockets({ env }), Deno.errors.NotCapable, "LISTEN_PIDFDID");
    assertEquals([...env], before);
    assert(!closesOnExec(handle));
    libc().close(handle);
  },
});

Deno.test({
  name: "an environment that makes no sense is an error, and stays as it is",
  ...withSystemd,
  fn: () => {
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    const handle = inherit(listener);
    const wrong: [Map<string, string>, ErrorClass, string][] = [
      [environment("many", handle), TypeError, 'Cannot take over sockets: LISTEN_FDS must be a number, got "many"'],
      [environment("-1", handle), TypeError, 'LISTEN_FDS must be a number, got "-1"'],
      [environment(1, "first" as never), TypeError, 'LISTEN_FDS_FIRST_FD must be a number, got "first"'],
      [environment(1, 0), TypeError, "LISTEN_FDS_FIRST_FD must be at least 3, got 0"],
      [environment(1, handle, { LISTEN_PID: "me" }), TypeError, 'LISTEN_PID must be a number, got "me"'],
      [environment(1, handle, { LISTEN_FDNAMES: "a:b" }), TypeError, "LISTEN_FDNAMES has 2 names for 1 sockets"],
      [environment(1, listener.handle), TypeError, `socket ${listener.handle}: this process opened it itself`],
      [environment(1, 9_999), WinsockError, "whether descriptor 9999 is inherited: fcntl failed with WSAENOTSOCK"],
      [environment(999_999_999, handle), WinsockError, "WSAENOTSOCK"],
    ];
    for (const [env, type, message] of wrong) {
      const before = new Map(env);
      assertThrows(() => systemdSockets({ env }), type, message);
      assertEquals(env, before);
      assert(!closesOnExec(handle));
    }
    using passed = systemdSockets({ env: environment(1, handle) });
    assertEquals(passed.takeHandle(0), handle);
    libc().close(handle);
  },
});

Deno.test({
  name: "what was not taken is closed with the rest",
  ...withSystemd,
  fn: async () => {
    const before = countDescriptors();
    const listener = listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr;
    const handle = inherit(listener);
    listener.close();
    (await connect({ port })).close();
    systemdSockets({ env: environment(1, handle) }).close();
    await assertRejects(() => connect({ port }), Deno.errors.ConnectionRefused, "WSAECONNREFUSED");
    assertEquals(countDescriptors(), before);
  },
});

/** Runs a program under systemd-socket-activate. */
function activate(args: string[], program: string[]): Deno.ChildProcess {
  return new Deno.Command("systemd-socket-activate", { args: [...args, ...program], stdout: "piped", stderr: "piped" })
    .spawn();
}

/** Connects as soon as somebody listens there. */
async function connectTo(port: number): Promise<Deno.TcpConn> {
  let socket: Socket | undefined;
  await until(async () => {
    socket = await connect({ port }).catch(() => undefined);
    return socket !== undefined;
  }, `somebody listens on port ${port}`);
  return socket!.toConn();
}

Deno.test({
  name: "systemd-socket-activate starts the example, which answers on systemd's listener",
  ignore: !haveProgram("systemd-socket-activate"),
  fn: async () => {
    const port = freePort();
    const program = [Deno.execPath(), ...RUN, EXAMPLE_ENV_GRANT, FFI_GRANT, EXAMPLE];
    const process = activate(["-l", `127.0.0.1:${port}`, "--fdname=web"], program);
    try {
      using conn = await connectTo(port);
      const answer = await readText(conn, 1_000);
      assertEquals(answer, `Hello from process ${process.pid}, on a listener passed by systemd\n`);
      const { code, stdout } = await within(20_000, process.output());
      assertEquals(code, 0);
      assertStringIncludes(new TextDecoder().decode(stdout), `listens on port ${port}, passed by systemd`);
    } finally {
      if (!process.stdout.locked) await endOf(process);
    }
  },
});

/** What a program that reports its sockets says, once systemd-socket-activate was woken. */
async function reported(args: string[], wake: () => Promise<void>): Promise<string[]> {
  const process = activate(args, [Deno.execPath(), ...RUN, EXAMPLE_ENV_GRANT, FFI_GRANT, REPORT]);
  try {
    await wake();
    const { stdout, stderr } = await within(20_000, process.output());
    const lines = new TextDecoder().decode(stdout).trimEnd().split("\n");
    return lines[0] === "" ? [new TextDecoder().decode(stderr)] : lines;
  } finally {
    if (!process.stdout.locked) await endOf(process);
  }
}

Deno.test({
  name: "systemd-socket-activate passes several sockets under their names",
  ignore: !haveProgram("systemd-socket-activate"),
  fn: async () => {
    const [web, admin] = [freePort(), freePort()];
    const args = ["-l", `127.0.0.1:${web}`, "-l", `[::1]:${admin}`, "--fdname=web:admin"];
    assertEquals(await reported(args, async () => (await connectTo(web)).close()), ["web Listener", "admin Listener"]);
  },
});

Deno.test({
  name: "datagram and local sockets of systemd-socket-activate are told apart",
  ignore: !haveProgram("systemd-socket-activate"),
  fn: async () => {
    const local = `@handoff-test-${crypto.randomUUID()}`;
    assertEquals(await reported(["--seqpacket", "-l", local], () => connectLocal(local)), ["unknown Listener"]);

    const port = freePort();
    const sender = createSocket("udp4");
    // Nobody says when the socket is bound, so datagrams are sent until one has woken somebody.
    const sending = setInterval(() => sender.send("x", port, "127.0.0.1"), 20);
    try {
      assertEquals(await reported(["-d", "-l", `127.0.0.1:${port}`], async () => {}), ["unknown DatagramSocket"]);
    } finally {
      clearInterval(sending);
      await new Promise<void>((resolve) => sender.close(() => resolve()));
    }
  },
});

Deno.test({
  name: "with --accept each connection comes as a socket",
  ignore: !haveProgram("systemd-socket-activate"),
  fn: async () => {
    const port = freePort();
    const process = activate(["-a", "-l", `127.0.0.1:${port}`], [
      Deno.execPath(),
      ...RUN,
      EXAMPLE_ENV_GRANT,
      FFI_GRANT,
      REPORT,
    ]);
    try {
      using conn = await connectTo(port);
      await writeText(conn, "ping");
      assertEquals(await readText(conn, 4), "ping");
    } finally {
      await endOf(process);
    }
  },
});

async function endOf(process: Deno.ChildProcess): Promise<void> {
  try {
    process.kill("SIGKILL");
  } catch {
    // it has ended by itself
  }
  await process.output();
}

/** One connection to an abstract seqpacket socket, as soon as somebody listens there. */
async function connectLocal(address: string): Promise<void> {
  const path = new TextEncoder().encode(`\x01\0\0${address.slice(1)}`);
  await until(() => {
    const s = BigInt(libc().socket(1, 5, 0));
    const result = libc().connect(s, path, path.byteLength);
    libc().close(s);
    return result === 0;
  }, `somebody listens on ${address}`);
}

Deno.test({
  name: "elsewhere than on Linux, passed sockets are refused",
  ignore: !withSystemd.ignore,
  fn: () => {
    assertThrows(() => systemdSockets({ env: environment(1, 3) }), Deno.errors.NotSupported, "Cannot take over");
  },
});
