// Every option of every public function, with values that it must not have: the error names it, and comes at once.
import { assert, assertEquals } from "@std/assert";
import {
  connect,
  DatagramSocket,
  duplicateSocket,
  type HandoffChild,
  HandoffSource,
  inherit,
  listen,
  listenDatagram,
  Listener,
  onUpgradeRequest,
  openSocket,
  receive,
  requestUpgrade,
  ServerVersion,
  Socket,
  type SocketOptions,
  upgrade,
  WorkerPool,
} from "@winsock/handoff";
import { serveHttp } from "@winsock/handoff/http";
import {
  DescriptorChannel,
  encodePythonMessage,
  notify,
  notifyBarrier,
  PassedSockets,
  readBlobs,
  receiveSystemfd,
  sendBlobs,
  serveSystemfd,
  spawnActivated,
  systemdSockets,
  watchdogInterval,
} from "@winsock/handoff/interop";
import { observeHandoffs, observePool } from "@winsock/handoff/otel";
import { serve } from "@winsock/handoff/serve";
import { defaultProvider, DescriptorTable, MemoryProvider, TableProvider, UnixProvider } from "@winsock/handoff/spi";
import { WSAPROTOCOL_INFOW } from "@winsock/handoff/structs";
import { ListenerShare } from "../../handoff/shared_listener.ts";
import { WebSockets } from "../../http/web_sockets.ts";

/** A number that is not allowed, and the class of its error; or a value of another type. */
type Wrong = readonly unknown[];

const NO_BOOLEANS: Wrong = [1, 0, "true", null];
const NO_STRINGS: Wrong = [5, null, {}, true];
const NO_TEXTS: Wrong = [...NO_STRINGS, ""];
const NO_FUNCTIONS: Wrong = [5, "x", null, {}];
const NO_SIGNALS: Wrong = [5, "SIGTERM", null, {}];
const NO_BYTES: Wrong = [5, "bytes", null, [1, 2], new ArrayBuffer(8)];
const NO_LISTS: Wrong = [5, "x", null, {}, [5]];
const NO_RECORDS: Wrong = [5, "x", null, { a: 5 }];
const NO_PATHS: Wrong = [5, null, {}, ""];
const NO_INTEGERS: Wrong = [NaN, -1, 1.5, Infinity, "5", null, 2n];
const NO_COUNTS: Wrong = [...NO_INTEGERS, 0];
const NO_LIMITS: Wrong = [NaN, -1, 0, 1.5, "5", null];
const NO_DURATIONS: Wrong = [NaN, -1, 2 ** 31, Infinity, "5", null];
const NO_POSITIVE_DURATIONS: Wrong = [...NO_DURATIONS, 0];
const NO_PROCESSES: Wrong = [NaN, -1, 1.5, 2 ** 32, "5", null];
const NO_STREAMS: Wrong = [5, "x", null, {}, new Uint8Array(1)];
const NO_WORDS: Wrong = ["", "x", 5, null];
const NO_HANDLES: Wrong = [-1n, 2n ** 64n, 5, "5", null, undefined];
const NO_ENVIRONMENTS: Wrong = [5, "x", null, {}];

/** Ports are checked as Deno does: what is not an integer is a TypeError. */
const NO_PORTS: Wrong = ["", "x", null, {}, -1, 65_536];

const SCRIPT = {
  args: NO_LISTS,
  cwd: NO_PATHS,
  denoFlags: NO_LISTS,
  env: NO_RECORDS,
};
const SOURCE = {
  endIfSilent: NO_BOOLEANS,
  onRelease: NO_FUNCTIONS,
  sendTimeout: NO_POSITIVE_DURATIONS,
  startTimeout: NO_POSITIVE_DURATIONS,
  trusted: NO_BOOLEANS,
};

/** An object of a class that was not constructed: options are looked at before anything of the object. */
function blank<T extends object>(of: { prototype: T }): T {
  return Object.create(of.prototype);
}

const SOCKET = blank(Socket);
const SOURCE_OBJECT = blank(HandoffSource);
const POOL = blank(WorkerPool);
const VERSION = blank(ServerVersion);
const LOCAL = { hostname: "127.0.0.1", port: 0 };

/** One function: what it is called with, and what its options must not be. */
interface Entry {
  /** The interfaces of the options. */
  readonly of: readonly string[];
  // deno-lint-ignore no-explicit-any -- wrong options are what this is about
  readonly call: (options: any) => unknown;
  /** The options that it needs. */
  readonly base?: object;
  readonly wrong: Readonly<Record<string, Wrong>>;
}

const ENTRIES: Readonly<Record<string, Entry>> = {
  "listen, TCP": {
    of: ["ListenOptions"],
    call: listen,
    base: LOCAL,
    wrong: {
      hostname: [...NO_STRINGS, "", "a\0b", "::1%eth0", "1.2.3.4%3"],
      freeBind: NO_BOOLEANS,
      ipv6Only: [...NO_BOOLEANS, true],
      port: NO_PORTS,
      reusePort: NO_BOOLEANS,
      tcpBacklog: [...NO_INTEGERS, 2 ** 31],
      transport: NO_WORDS,
    },
  },
  "listen, local": {
    of: ["ListenLocalOptions"],
    call: listen,
    base: { path: "x" },
    wrong: { backlog: [...NO_INTEGERS, 2 ** 31], path: NO_STRINGS, transport: NO_WORDS, type: NO_WORDS },
  },
  "connect, TCP": {
    of: ["ConnectOptions"],
    call: connect,
    base: { port: 1 },
    wrong: {
      autoSelectFamily: NO_BOOLEANS,
      autoSelectFamilyAttemptDelay: NO_COUNTS,
      hostname: [...NO_STRINGS, "", "a\0b"],
      port: [...NO_PORTS, undefined],
      signal: NO_SIGNALS,
      transport: NO_WORDS,
    },
  },
  "connect, local": {
    of: ["ConnectLocalOptions"],
    call: connect,
    base: { path: "x" },
    wrong: { path: NO_STRINGS, signal: NO_SIGNALS, transport: NO_WORDS, type: NO_WORDS },
  },
  listenDatagram: {
    of: ["ListenDatagramOptions"],
    call: listenDatagram,
    base: LOCAL,
    wrong: {
      freeBind: NO_BOOLEANS,
      hostname: [...NO_STRINGS, "", "a\0b", "::1%eth0"],
      ipv6Only: [...NO_BOOLEANS, true],
      loopback: NO_BOOLEANS,
      port: NO_PORTS,
      reuseAddress: NO_BOOLEANS,
      reusePort: NO_BOOLEANS,
      transport: NO_WORDS,
    },
  },
  "listenDatagram, local": {
    of: ["ListenLocalDatagramOptions"],
    call: listenDatagram,
    base: { transport: "unixpacket", path: "x" },
    wrong: { path: NO_STRINGS, transport: NO_WORDS },
  },
  "Socket.fromHandle": {
    of: ["FromHandleOptions"],
    call: (options) => Socket.fromHandle(1n, options),
    wrong: { initialBytes: NO_BYTES },
  },
  openSocket: {
    of: ["OpenSocketOptions", "FromHandleOptions"],
    call: (options) => openSocket(new Uint8Array(628), options),
    wrong: { kind: NO_WORDS, initialBytes: NO_BYTES },
  },
  "Socket.read": {
    of: ["ReadOptions"],
    call: (options) => Socket.prototype.read.call(SOCKET, 1, options),
    wrong: { signal: NO_SIGNALS },
  },
  "Socket.toConn": {
    of: ["StreamOptions"],
    call: (options) => Socket.prototype.toConn.call(SOCKET, options),
    wrong: { native: NO_BOOLEANS },
  },
  "Socket.toNodeSocket": {
    of: ["StreamOptions"],
    call: (options) => Socket.prototype.toNodeSocket.call(SOCKET, options),
    wrong: { native: NO_BOOLEANS },
  },
  "new HandoffSource": {
    of: ["HandoffSourceOptions"],
    call: (options) => new HandoffSource({} as HandoffChild, options),
    wrong: SOURCE,
  },
  "HandoffSource.spawn": {
    of: ["HandoffSpawnOptions", "HandoffSourceOptions", "ScriptOptions"],
    call: (options) => HandoffSource.spawn("x.ts", options),
    wrong: { ...SOURCE, ...SCRIPT },
  },
  "HandoffSource.send": {
    of: ["SendOptions"],
    call: (options) => SOURCE_OBJECT.send(SOCKET, options),
    wrong: { initialBytes: NO_BYTES, signal: NO_SIGNALS },
  },
  "HandoffSource.shareListener": {
    of: ["ShareListenerOptions"],
    call: (options) => SOURCE_OBJECT.shareListener(blank(Listener), options),
    wrong: {
      endIfSilent: NO_BOOLEANS,
      limit: [...NO_LIMITS, 2 ** 32 - 1, 2 ** 32],
      signal: NO_SIGNALS,
      timeout: NO_POSITIVE_DURATIONS,
    },
  },
  "SharedListener.resume": {
    of: [],
    call: (options) => blank(ListenerShare).resume(options),
    wrong: { limit: [...NO_LIMITS, 2 ** 32 - 1] },
  },
  receive: {
    of: ["ReceiveOptions"],
    call: receive,
    wrong: {
      autoAccept: NO_BOOLEANS,
      input: NO_STREAMS,
      kinds: [[], ["x"], ["toString"], ["connection", 5], "connection", 5, null],
      sendTimeout: NO_POSITIVE_DURATIONS,
      signal: NO_SIGNALS,
    },
  },
  "new WorkerPool": {
    of: ["WorkerPoolSettings", "WorkerScript", "WorkerExecutable", "ScriptOptions"],
    call: (options) => new WorkerPool(options),
    base: { script: "x.ts" },
    wrong: {
      ...SCRIPT,
      script: NO_PATHS,
      command: NO_PATHS,
      attempts: NO_LIMITS,
      drainTimeout: NO_DURATIONS,
      maxFailures: [NaN, -1, 1.5, "5", null],
      maxQueue: [NaN, -1, 1.5, "5", null],
      maxRestartDelay: NO_DURATIONS,
      maxSocketsPerWorker: [...NO_LIMITS, 2 ** 32],
      onReturn: NO_FUNCTIONS,
      outputPrefix: [5, null, {}],
      queueTimeout: NO_POSITIVE_DURATIONS,
      restartDelay: NO_DURATIONS,
      sendTimeout: NO_POSITIVE_DURATIONS,
      signal: NO_SIGNALS,
      size: [...NO_COUNTS, 1_025, 2 ** 31],
      startTimeout: NO_POSITIVE_DURATIONS,
      strategy: NO_WORDS,
      trusted: NO_BOOLEANS,
    },
  },
  "WorkerPool.dispatch": {
    of: ["SendOptions", "DispatchOptions"],
    call: (options) => POOL.dispatch(SOCKET, options),
    wrong: { initialBytes: NO_BYTES, signal: NO_SIGNALS, worker: NO_INTEGERS },
  },
  "WorkerPool.postMessage": {
    of: ["PostMessageOptions", "PoolMessageOptions"],
    call: (options) => POOL.postMessage("x", options),
    wrong: { signal: NO_SIGNALS, worker: NO_INTEGERS },
  },
  "HandoffSource.postMessage": {
    of: ["PostMessageOptions"],
    call: (options) => SOURCE_OBJECT.postMessage("x", options),
    wrong: { signal: NO_SIGNALS },
  },
  "WorkerPool.serve": {
    of: ["PoolServeOptions"],
    call: (options) => POOL.serve(blank(Listener), options),
    wrong: {
      distribute: NO_WORDS,
      initialBytes: NO_BYTES,
      onConnection: NO_FUNCTIONS,
      signal: NO_SIGNALS,
    },
  },
  "WorkerPool.restart": {
    of: ["PoolRestartOptions"],
    call: (options) => POOL.restart(options),
    wrong: { drainTimeout: NO_DURATIONS, startTimeout: NO_POSITIVE_DURATIONS },
  },
  "WorkerPool.close": {
    of: [],
    call: (options) => POOL.close(options),
    wrong: { drainTimeout: NO_DURATIONS },
  },
  inherit: {
    of: ["InheritOptions"],
    call: inherit,
    base: { predecessor: 0 },
    wrong: {
      input: NO_STREAMS,
      onAddressChange: NO_WORDS,
      pidFile: NO_TEXTS,
      predecessor: NO_PROCESSES,
      sockets: [5, "x", null],
    },
  },
  "ServerVersion.openFile": {
    of: ["OpenFileOptions"],
    call: (options) => VERSION.openFile("log", "/nowhere/x", options),
    wrong: {
      append: NO_BOOLEANS,
      create: NO_BOOLEANS,
      lock: NO_BOOLEANS,
      mode: [NaN, -1, 1.5, 0o10000, "5", null],
      read: NO_BOOLEANS,
      write: NO_BOOLEANS,
    },
  },
  upgrade: {
    of: ["UpgradeSettings", "ScriptOptions"],
    call: (options) => upgrade(VERSION, options),
    base: { script: "x.ts" },
    wrong: {
      ...SCRIPT,
      connections: [5, null, {}, [{}], [{ socket: 5 }]],
      drainTimeout: NO_DURATIONS,
      probation: NO_DURATIONS,
      signal: NO_SIGNALS,
      supervise: NO_BOOLEANS,
      timeout: NO_POSITIVE_DURATIONS,
    },
  },
  onUpgradeRequest: {
    of: ["OnUpgradeRequestOptions"],
    call: (options) => onUpgradeRequest(() => Promise.reject(), options),
    base: { controlFile: "/nowhere/x" },
    wrong: { controlFile: NO_TEXTS, onUpgraded: NO_FUNCTIONS, osSignal: NO_STRINGS },
  },
  requestUpgrade: {
    of: [],
    call: (options) => requestUpgrade("/nowhere/x", options),
    wrong: { signal: NO_SIGNALS },
  },
  serve: {
    of: ["ServeOptions"],
    call: serve,
    base: { main: "x.ts" },
    wrong: {
      args: NO_LISTS,
      controlFile: NO_TEXTS,
      denoFlags: NO_LISTS,
      distribute: NO_WORDS,
      drainTimeout: NO_DURATIONS,
      hostname: NO_STRINGS,
      listener: [5, "x", null, {}],
      main: NO_PATHS,
      maxRequestBodySize: [NaN, -1, 1.5, "5", null],
      onWorker: NO_FUNCTIONS,
      outputPrefix: [5, null, {}],
      port: NO_PORTS,
      startTimeout: NO_POSITIVE_DURATIONS,
      workers: [...NO_COUNTS, 2 ** 31],
    },
  },
  serveHttp: {
    of: ["ServeHttpOptions", "StreamOptions"],
    call: (options) => serveHttp(blank(Listener), () => new Response(), options),
    wrong: {
      automaticCompression: NO_BOOLEANS,
      engine: NO_WORDS,
      headersTimeout: NO_COUNTS,
      keepAliveTimeout: NO_COUNTS,
      maxBufferedAmount: NO_COUNTS,
      maxConnections: NO_COUNTS,
      maxHeaderSize: NO_COUNTS,
      maxMessageSize: NO_COUNTS,
      maxRequestBodySize: [NaN, -1, 1.5, "5", null],
      minSendRate: NO_INTEGERS,
      native: NO_BOOLEANS,
      onError: NO_FUNCTIONS,
      requestTimeout: NO_INTEGERS,
      sendTimeout: NO_INTEGERS,
      shutdownTimeout: [...NO_INTEGERS, 2 ** 31],
      signal: NO_SIGNALS,
      tls: [5, null, {}, { cert: "x" }, { cert: "x", key: 5 }],
    },
  },
  upgradeWebSocket: {
    of: ["WebSocketUpgradeOptions"],
    call: (options) => {
      const sockets = new WebSockets({ maxMessageSize: 1, maxBufferedAmount: 1 });
      return sockets.open({} as never, {} as never, new Uint8Array(0), options);
    },
    wrong: {
      headers: [{ "a b": "x" }, { upgrade: "x" }, [["a"]]],
      idleTimeout: [NaN, -1, Infinity, "5", null],
      protocol: NO_STRINGS,
    },
  },
  sendBlobs: {
    of: ["BlobOptions"],
    call: (options) => sendBlobs(new WritableStream(), [], Deno.pid, options),
    wrong: { form: NO_WORDS },
  },
  readBlobs: {
    of: ["BlobOptions", "ReadBlobsOptions"],
    call: (options) => readBlobs(new ReadableStream(), options).next(),
    wrong: { form: NO_WORDS, skip: NO_INTEGERS },
  },
  notify: {
    of: ["NotifyOptions"],
    call: (options) => notify({}, options),
    wrong: { env: NO_ENVIRONMENTS, sockets: [5, "x", null, {}] },
  },
  notifyBarrier: {
    of: ["NotifyBarrierOptions"],
    call: notifyBarrier,
    base: { env: new Map() },
    wrong: { env: NO_ENVIRONMENTS, signal: NO_SIGNALS },
  },
  watchdogInterval: {
    of: ["WatchdogOptions"],
    call: watchdogInterval,
    base: { env: new Map() },
    wrong: { env: NO_ENVIRONMENTS, processId: NO_PROCESSES },
  },
  observeHandoffs: {
    of: ["HandoffTelemetryOptions"],
    call: observeHandoffs,
    wrong: { spans: NO_BOOLEANS },
  },
  observePool: {
    of: ["PoolTelemetryOptions"],
    call: (options) => observePool(POOL, options),
    wrong: { name: NO_STRINGS },
  },
  receiveSystemfd: {
    of: ["ReceiveSystemfdOptions"],
    call: receiveSystemfd,
    base: { env: new Map() },
    wrong: { env: NO_ENVIRONMENTS, timeout: NO_POSITIVE_DURATIONS },
  },
  serveSystemfd: {
    of: ["ServeSystemfdOptions"],
    call: (options) => serveSystemfd([], options),
    wrong: {
      maxClients: NO_COUNTS,
      onError: NO_FUNCTIONS,
      processId: [...NO_PROCESSES, 0],
      timeout: NO_POSITIVE_DURATIONS,
    },
  },
  spawnActivated: {
    of: ["SpawnActivatedOptions"],
    call: (options) => spawnActivated("x", [], options),
    wrong: {
      args: NO_LISTS,
      clearEnv: NO_BOOLEANS,
      cwd: NO_TEXTS,
      env: NO_RECORDS,
      stdio: [5, "pipe", null, ["pipe"], ["pipe", "pipe", "x"]],
    },
  },
  systemdSockets: {
    of: ["SystemdOptions"],
    call: systemdSockets,
    base: { env: new Map() },
    wrong: { env: NO_ENVIRONMENTS, processId: NO_PROCESSES },
  },
  "new MemoryProvider": {
    of: ["MemoryProviderOptions"],
    call: (options) => new MemoryProvider(options),
    wrong: { processId: NO_PROCESSES, processIds: [5, "x", null, [-1], ["5"]] },
  },
  "new UnixProvider": {
    of: ["UnixProviderOptions"],
    call: (options) => new UnixProvider(options),
    wrong: { timeToLive: NO_DURATIONS },
  },
  "new DescriptorTable": {
    of: ["DescriptorTableOptions"],
    call: (options) => new DescriptorTable(options),
    wrong: { providerPath: NO_FUNCTIONS },
  },
};

/** The options that are checked elsewhere, or not at all, and why. */
const NOT_HERE: Readonly<Record<string, string>> = {
  "SendOptions.data": "any JSON value",
  "PoolServeOptions.data": "any JSON value",
  "ShareListenerOptions.data": "any JSON value",
  "PeekOptions.atLeast": "with the size, in the tests of parameters",
  "HttpTlsOptions.cert": "as a part of `tls`",
  "HttpTlsOptions.key": "as a part of `tls`",
  "WinsockErrorOptions.detail": "an error that is constructed does not throw",
  "WinsockErrorOptions.errnoName": "an error that is constructed does not throw",
  "WinsockErrorOptions.functionName": "an error that is constructed does not throw",
  "WinsockErrorOptions.operation": "an error that is constructed does not throw",
};

/** What a call throws, at once or as a rejection. */
async function thrownBy(call: () => unknown): Promise<unknown> {
  try {
    await call();
  } catch (error) {
    return error;
  }
  return undefined;
}

/** Whether a value is wrong as a number, and not by its type. */
function isNumber(value: unknown): boolean {
  return typeof value === "number" || typeof value === "bigint";
}

/** Asserts that a call is refused with an error that names what was wrong. */
async function assertRefused(name: string, value: unknown, what: string, call: () => unknown): Promise<void> {
  const error = await thrownBy(call);
  assert(error instanceof TypeError || error instanceof RangeError, `${what}: ${error}`);
  assert(error.message.startsWith("Invalid `"), `${what}: ${error.message}`);
  assert(error.message.includes(`\`${name}\`: must `) && error.message.includes("must"), `${what}: ${error.message}`);
  // deno-lint-ignore no-control-regex -- what must not be there
  assert(!/[\x00-\x1f\x7f-\x9f]/.test(error.message), `${what}: ${JSON.stringify(error.message)}`);
  if (error instanceof RangeError) assert(isNumber(value), `${what}: a RangeError is for numbers`);
}

for (const [name, { call, base = {}, wrong }] of Object.entries(ENTRIES)) {
  Deno.test(`${name} refuses options that are not what they must be`, async () => {
    for (const [option, values] of Object.entries(wrong)) {
      for (const value of values) {
        const options: Record<string, unknown> = { ...base, [option]: value };
        // A command is instead of a script.
        if (option === "command") delete options.script;
        await assertRefused(option, value, `${option}: ${String(value)}`, () => call(options));
      }
    }
    for (const options of [5, "x", null]) {
      await assertRefused("options", options, String(options), () => call(options));
    }
  });
}

Deno.test("the options are all there are", async () => {
  const folder = new URL("../../tools/api/", import.meta.url);
  const known = new Set(Object.keys(NOT_HERE));
  for (const { of, wrong } of Object.values(ENTRIES)) {
    for (const name of of) for (const option of Object.keys(wrong)) known.add(`${name}.${option}`);
  }
  const missing: string[] = [];
  let count = 0;
  for (const { name } of Deno.readDirSync(folder)) {
    if (!name.endsWith(".txt")) continue;
    let current: string | undefined;
    for (const line of (await Deno.readTextFile(new URL(name, folder))).split(/\r?\n/)) {
      if (!line.startsWith(" ")) {
        const [, found] =
          /^(?:@experimental )?interface (\w+(?:Options|Settings)|Worker(?:Script|Executable))\b/.exec(line) ?? [];
        current = found === "SocketOptions" ? undefined : found;
        continue;
      }
      const [, option, type] = /^ {2}(?:@experimental )?(\w+)\??: (.+)$/.exec(line) ?? [];
      if (current === undefined || option === undefined || type === "never") continue;
      count++;
      if (!known.has(`${current}.${option}`)) missing.push(`${current}.${option}`);
    }
  }
  assert(count > 100, `${count} options`);
  assertEquals(missing, []);
});

/** The parameters that are not options: what a call does with a value, by the parameter's name. */
// deno-lint-ignore no-explicit-any -- wrong parameters are what this is about
const PARAMETERS: Readonly<Record<string, readonly [name: string, Wrong, (value: any) => unknown]>> = {
  "Socket.fromHandle": ["handle", NO_HANDLES, (handle) => Socket.fromHandle(handle)],
  "Listener.fromHandle": ["handle", NO_HANDLES, (handle) => Listener.fromHandle(handle)],
  "DatagramSocket.fromHandle": ["handle", NO_HANDLES, (handle) => DatagramSocket.fromHandle(handle)],
  "Socket.read": ["size", [...NO_COUNTS, 2 ** 31], (size) => SOCKET.read(size)],
  "Socket.unread": ["bytes", NO_BYTES, (bytes) => SOCKET.unread(bytes)],
  "DatagramSocket.send, data": ["data", NO_BYTES, (data) => blank(DatagramSocket).send(data, LOCAL as never)],
  "DatagramSocket.send, addr": ["addr", [5, "x", null], (addr) => blank(DatagramSocket).send(new Uint8Array(1), addr)],
  "DatagramSocket.receive": ["buffer", NO_BYTES, (buffer) => blank(DatagramSocket).receive(buffer)],
  "DatagramSocket.joinMulticastV4": [
    "networkInterface",
    NO_STRINGS,
    (networkInterface) => blank(DatagramSocket).joinMulticastV4("239.1.2.3", networkInterface),
  ],
  "DatagramSocket.joinMulticastV6": [
    "networkInterface",
    [...NO_INTEGERS, 2 ** 32],
    (networkInterface) => blank(DatagramSocket).joinMulticastV6("ff02::1", networkInterface),
  ],
  "openSocket": ["protocolInfo", NO_BYTES, (bytes) => openSocket(bytes)],
  "HandoffSource.spawn": ["script", NO_PATHS, (script) => HandoffSource.spawn(script)],
  "ServerVersion.listen": ["name", NO_STRINGS, (name) => VERSION.listen(name, LOCAL)],
  "ServerVersion.listenDatagram": ["name", NO_STRINGS, (name) => VERSION.listenDatagram(name, LOCAL)],
  "ServerVersion.takeListeners": ["name", NO_STRINGS, (name) => VERSION.takeListeners(name)],
  "ServerVersion.takeDatagramSockets": ["name", NO_STRINGS, (name) => VERSION.takeDatagramSockets(name)],
  "ServerVersion.openFile, name": ["name", NO_STRINGS, (name) => VERSION.openFile(name, "x")],
  "ServerVersion.openFile, path": ["path", NO_PATHS, (path) => VERSION.openFile("log", path)],
  "ServerVersion.addFile": ["handle", NO_HANDLES, (handle) => VERSION.addFile("log", handle)],
  "ServerVersion.takeFile": ["name", NO_STRINGS, (name) => VERSION.takeFile(name)],
  "ServerVersion.refuse": ["reason", NO_STRINGS, (reason) => VERSION.refuse(reason)],
  "upgrade": ["version", [5, "x", null, {}], (version) => upgrade(version, { script: "x.ts" })],
  "onUpgradeRequest": ["upgrade", NO_FUNCTIONS, (upgrade) => onUpgradeRequest(upgrade, { controlFile: "x" })],
  "requestUpgrade": ["controlFile", NO_TEXTS, (file) => requestUpgrade(file)],
  "serveHttp, connections": ["connections", [5, "x", null, {}, []], (all) => serveHttp(all, () => new Response())],
  "serveHttp, handler": ["handler", NO_FUNCTIONS, (handler) => serveHttp(blank(Listener), handler)],
  "WorkerPool.serve": ["listener", [SOCKET], (listener) => POOL.serve(listener)],
  "encodePythonMessage": ["bytes", NO_BYTES, (bytes) => encodePythonMessage(bytes)],
  "new DescriptorChannel": ["handle", NO_HANDLES, (handle) => new DescriptorChannel(handle)],
  "DescriptorChannel.receive": ["most", [...NO_COUNTS, 254], (most) => blank(DescriptorChannel).receive(most)],
  "DescriptorChannel.send": ["sockets.length", [0, 254], (length) => blank(DescriptorChannel).send(Array(length))],
  "new PassedSockets": ["handle", NO_HANDLES, (handle) => new PassedSockets([{ name: "", handle }])],
  "PassedSockets.take": ["which", [NaN, -1, 1.5, null, {}], (which) => new PassedSockets([]).take(which)],
  "spawnActivated": ["command", NO_TEXTS, (command) => spawnActivated(command, [])],
  "notify": ["state", [5, "x", null], (state) => notify(state)],
  "MemoryProvider.fail, step": ["step", NO_WORDS, (step) => new MemoryProvider().fail(step, "WSAENETDOWN")],
  "MemoryProvider.fail, name": ["name", NO_WORDS, (name) => new MemoryProvider().fail("socket", name)],
  "MemoryProvider.fail, times": [
    "times",
    [NaN, -1, 1.5, "5", null],
    (times) => new MemoryProvider().fail("socket", "WSAENETDOWN", times),
  ],
  "ServiceProvider.duplicateSocket, s": ["s", NO_HANDLES, (s) => defaultProvider().duplicateSocket(s, Deno.pid)],
  "ServiceProvider.duplicateSocket, processId": [
    "processId",
    NO_PROCESSES,
    (processId) => defaultProvider().duplicateSocket(1n, processId),
  ],
  "ServiceProvider.closeSocket": ["s", NO_HANDLES, (s) => defaultProvider().closeSocket(s)],
  "TableProvider.getSockOpt, size": [
    "size",
    [...NO_INTEGERS, 65_537],
    (size) => blank(TableProvider).getSockOpt(1n, 1, 1, size ?? null),
  ],
  "TableProvider.getSockOpt, level": [
    "level",
    [NaN, 1.5, 2 ** 31, "5", null],
    (level) => blank(TableProvider).getSockOpt(1n, level, 1),
  ],
  "TableProvider.setSockOpt": ["value", NO_BYTES, (value) => blank(TableProvider).setSockOpt(1n, 1, 1, value)],
};

for (const [name, [parameter, values, call]] of Object.entries(PARAMETERS)) {
  Deno.test(`${name} refuses a \`${parameter}\` that is not what it must be`, async () => {
    for (const value of values) await assertRefused(parameter, value, String(value), () => call(value));
  });
}

Deno.test("a socket's options have names and values of their type", async () => {
  using listener = listen(LOCAL);
  using socket = await connect({ port: listener.addr.port });
  using _accepted = await listener.accept();
  const wrong: Readonly<Record<string, Wrong>> = {
    TCP_NODELAY: NO_BOOLEANS,
    SO_KEEPALIVE: NO_BOOLEANS,
    SO_RCVBUF: [...NO_INTEGERS, 2 ** 31],
    SO_LINGER: [NaN, -1, 65_536, "5", true],
    IP_MULTICAST_IF: [5, null, "example.com", "1.2.3.4.5"],
  };
  for (const [option, values] of Object.entries(wrong)) {
    for (const value of values) {
      const call = () => socket.setOption(option as keyof SocketOptions, value as never);
      await assertRefused(option, value, `${option}: ${value}`, call);
    }
  }
  for (const option of ["SO_NONE", "toString", 5, null]) {
    for (const call of [() => socket.getOption(option as never), () => socket.setOption(option as never, 1 as never)]) {
      await assertRefused("name", "", String(option), call);
    }
  }
  for (const [size, atLeast] of [[1, 2], [1, 0], [1, NaN], [1, "1"]] as const) {
    const call = () => socket.peek(size, { atLeast: atLeast as number });
    await assertRefused("atLeast", atLeast, `${atLeast} of ${size}`, call);
  }
  for (const size of [...NO_COUNTS, 2 ** 31]) {
    await assertRefused("size", size, String(size), () => socket.peek(size as number));
  }
  using datagrams = listenDatagram(LOCAL);
  for (const port of [...NO_PORTS, undefined]) {
    const call = () => datagrams.send(new Uint8Array(1), { ...LOCAL, port } as never);
    await assertRefused("port", port, `${port}`, call);
  }
  for (const processId of NO_PROCESSES) {
    const call = () => duplicateSocket(listener, processId as number);
    await assertRefused("processId", processId, String(processId), call);
  }
});

Deno.test("a number that the system would cut to 32 bits is not a descriptor", () => {
  using listener = listen(LOCAL);
  const s = listener.handle + 2n ** 32n;
  for (
    const use of [
      () => Socket.fromHandle(s),
      () => Listener.fromHandle(s),
      () => DatagramSocket.fromHandle(s),
      () => defaultProvider().duplicateSocket(s, Deno.pid),
      () => defaultProvider().closeSocket(s),
      () => new PassedSockets([{ name: "", handle: s }]).take(0),
    ]
  ) {
    let codeName: unknown;
    try {
      use();
    } catch (error) {
      codeName = Reflect.get(Object(error), "codeName");
    }
    assertEquals(codeName, "WSAENOTSOCK", String(use));
  }
  assertEquals(listener.getOption("SO_LINGER"), null);
});

Deno.test("a structure is decoded from bytes only", async () => {
  for (const bytes of NO_BYTES) {
    const error = await thrownBy(() => WSAPROTOCOL_INFOW.decode(bytes as never));
    assert(error instanceof TypeError, String(error));
    assertEquals(error.message, "Cannot decode WSAPROTOCOL_INFOW: expected a Uint8Array");
  }
});
