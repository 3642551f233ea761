// Real versions of a real server, each replacing the one before.
import { assertEquals, assertRejects } from "@std/assert";
import {
  connect,
  duplicateSocket,
  inherit,
  type Listener,
  Socket,
  upgrade,
  UpgradeError,
  type UpgradeSettings,
  WinsockError,
} from "@winsock/handoff";
import { defaultProvider } from "@winsock/handoff/spi";
import { connection, readEnd, readText } from "../kit/connections.ts";
import { openStreams } from "../kit/descriptors.ts";
import { endChild, FFI_GRANT, lines, RUN, until, within } from "../kit/process.ts";
import { isRunning } from "../kit/process_state.ts";

interface Version {
  version: string;
  pid: number;
  port: number;
  predecessor?: number;
}

const SCRIPT = new URL("../children/server_version.ts", import.meta.url).href;

/** Runs the first version, and afterwards ends whichever serves. */
async function withServer(test: (server: Server) => Promise<void>): Promise<void> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...RUN, FFI_GRANT, "--allow-env", "--allow-run", "--allow-read", SCRIPT, "1"],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const line = lines(child as Deno.ChildProcess);
  const server = new Server(line, JSON.parse(await line() ?? "{}"));
  try {
    await test(server);
  } finally {
    const last = await server.who().catch(() => undefined);
    await endChild(child);
    for (const { pid } of [...server.versions, ...last === undefined ? [] : [last]]) {
      try {
        Deno.kill(pid, "SIGKILL");
      } catch {
        // it has ended
      }
    }
  }
}

class Server {
  readonly versions: Version[];
  readonly port: number;

  constructor(readonly line: () => Promise<string | undefined>, first: Version) {
    this.versions = [first];
    this.port = first.port;
  }

  /** Who answers now, over a new connection. */
  async who(): Promise<{ version: string; pid: number }> {
    const [version, pid] = (await this.#request("/")).split(" ");
    return { version: version!, pid: Number(pid) };
  }

  /** Has the version that serves replace itself by one in this mode. */
  async upgrade(mode: string): Promise<{ processId?: number; outcome?: string; reason?: string; said?: string }> {
    const { pid } = await this.who();
    return JSON.parse(await this.#request(`/${pid}/${encodeURIComponent(mode)}`, "POST"));
  }

  async next(): Promise<Version> {
    const version = JSON.parse(await this.line() ?? "{}");
    this.versions.push(version);
    return version;
  }

  async #request(path: string, method = "GET"): Promise<string> {
    const response = await within(
      20_000,
      fetch(`http://127.0.0.1:${this.port}${path}`, { method, headers: { connection: "close" } }),
    );
    return await response.text();
  }
}

function alive(pid: number): boolean {
  return Deno.build.os !== "windows" && isRunning(pid);
}

Deno.test("versions replace each other on the same port, and the old ones end", async () => {
  await withServer(async (server) => {
    assertEquals(server.versions[0]!.predecessor, undefined);
    for (let version = 2; version <= 3; version++) {
      const before = server.versions.at(-1)!;
      const { processId, outcome, reason } = await server.upgrade("well");
      assertEquals([outcome, reason], [undefined, undefined]);
      const after = await server.next();
      assertEquals([after.pid, after.port, after.predecessor], [processId, server.port, before.pid]);
      assertEquals(await server.who(), { version: String(version), pid: after.pid });
      await until(() => !alive(before.pid), "the old version has ended");
    }
  });
});

for (
  const [mode, outcome, reason] of [
    ["crash early", "crashed", ""],
    ["crash", "crashed", "exited with 4"],
    ["be killed", "crashed", Deno.build.os === "windows" ? "exited with" : "was ended by SIGKILL"],
    ["refuse", "refused", "not in the mood"],
    ["hang", "timeout", "was not ready in 4000 ms"],
    ["deaf", "timeout", "was not ready"],
    ["crash after ready", "crashed", "exited with 5"],
    ["freeze after ready", "timeout", "did not answer in 5000 ms"],
  ] as const
) {
  Deno.test(`a new version that does this leaves the old one serving: ${mode}`, async () => {
    await withServer(async (server) => {
      const [first] = server.versions;
      const result = await server.upgrade(mode);
      assertEquals([result.outcome, result.reason?.includes(reason)], [outcome, true], result.reason);
      if (mode.endsWith("after ready")) await server.next();
      for (let count = 0; count < 5; count++) assertEquals((await server.who()).pid, first!.pid);
      const { processId } = await server.upgrade("well");
      await server.next();
      assertEquals((await server.who()).pid, processId, "the next upgrade works");
    });
  });
}

Deno.test("an established connection goes along, and is answered by the new version", async () => {
  await withServer(async (server) => {
    const { processId, said } = await server.upgrade("take along");
    assertEquals(said, `along ${processId}`);
    await server.next();
    assertEquals((await server.who()).pid, processId);
  });
});

const TRIAL_MS = 1_000;

/** Has another version take a connection along on which `request` was read already. */
async function takeAlong(mode: string, request: string, options: UpgradeSettings = {}) {
  const version = await inherit({ predecessor: 0 });
  version.listen("http", { hostname: "127.0.0.1", port: 0 });
  await version.markReady();
  const pair = await connection();
  const initialBytes = new TextEncoder().encode(request);
  const server = Socket.fromHandle(pair.server.detach(), { initialBytes });
  const upgrading = upgrade(version, {
    script: new URL("../children/connection_version.ts", import.meta.url),
    denoFlags: ["--no-check", "--cached-only", "--allow-env"],
    args: [mode],
    probation: TRIAL_MS,
    drainTimeout: 0,
    connections: [{ socket: server }],
    ...options,
  });
  return { client: pair.client.toConn(), server, upgrading, [Symbol.dispose]: () => version[Symbol.dispose]() };
}

Deno.test("a connection that went along is answered when the trial is over, and not before", async () => {
  using along = await takeAlong("wait", "a request");
  const { client, upgrading } = along;
  const began = performance.now();
  const said = await within(20_000, readText(client, 4_000));
  const elapsed = performance.now() - began;
  const { processId } = await within(20_000, upgrading);
  assertEquals([said, elapsed >= TRIAL_MS], [`${processId} did a request`, true], `after ${elapsed} ms`);
  client.close();
  Deno.kill(processId, "SIGKILL");
});

Deno.test("what goes along to a version that waits, and fails in its trial, is done once", async () => {
  using along = await takeAlong("crash", "a request");
  const { client, server, upgrading } = along;
  const { outcome, reason } = await within(20_000, assertRejects(() => upgrading, UpgradeError));
  assertEquals([outcome, reason.includes("exited with 6")], ["crashed", true], reason);
  const conn = server.toConn();
  await conn.write(new TextEncoder().encode("the old version did it"));
  conn.close();
  assertEquals(await within(20_000, readText(client, 4_000)), "the old version did it");
  client.close();
});

Deno.test("a connection that went along and that nobody asks for is closed when the trial is over", async () => {
  using along = await takeAlong("ignore", "");
  const { client, upgrading } = along;
  const { processId } = await within(20_000, upgrading);
  assertEquals(await within(10_000, readEnd(client)), true);
  client.close();
  Deno.kill(processId, "SIGKILL");
});

Deno.test("two upgrades at once: one happens, the other is told so", async () => {
  await withServer(async (server) => {
    const results = await Promise.all([server.upgrade("well"), server.upgrade("well")]);
    const busy = results.filter(({ outcome }) => outcome === "busy");
    assertEquals(busy.length, 1);
    const { pid } = await server.next();
    assertEquals(results.find(({ processId }) => processId !== undefined)?.processId, pid);
    assertEquals((await server.who()).pid, pid);
  });
});

Deno.test("an old version that is killed half-way leaves the new one serving", async () => {
  await withServer(async (server) => {
    const [first] = server.versions;
    const upgrading = server.upgrade("slow").catch(() => undefined);
    assertEquals(await server.line(), "initialising");
    Deno.kill(first!.pid, "SIGKILL");
    await upgrading;
    const second = await server.next();
    assertEquals([second.predecessor, second.port], [first!.pid, server.port]);
    assertEquals((await server.who()).pid, second.pid);
    const { processId } = await server.upgrade("well");
    await server.next();
    assertEquals((await server.who()).pid, processId);
  });
});

interface Supervisor {
  readonly child: Deno.ChildProcess;
  readonly server: Server;
  /** Has another version serve. */
  tell(mode: string): Promise<void>;
  /** The result of an upgrade. Versions that say so serve meanwhile. */
  result(): Promise<{ processId?: number }>;
}

/** Runs a supervisor, and afterwards ends it and its versions. */
async function withSupervisor(test: (supervisor: Supervisor) => Promise<void>): Promise<void> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...RUN, FFI_GRANT, "--allow-run", new URL("../children/supervisor.ts", import.meta.url).href],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const line = lines(child);
  const input = child.stdin.getWriter();
  const server = new Server(line, JSON.parse(await line() ?? "{}"));
  const tell = (mode: string) => input.write(new TextEncoder().encode(`${mode}\n`));
  const result = async () => {
    for (;;) {
      const said = JSON.parse(await line() ?? "{}");
      if (said.upgrade !== undefined) return said.upgrade;
      server.versions.push(said);
    }
  };
  try {
    await test({ child, server, tell, result });
  } finally {
    await endChild(child);
    for (const { pid } of server.versions) {
      try {
        Deno.kill(pid, "SIGKILL");
      } catch {
        // it has ended
      }
    }
  }
}

Deno.test("a supervisor keeps its process and its listener while versions come and go", async () => {
  await withSupervisor(async ({ server, tell, result }) => {
    const pids = [];
    for (const mode of ["well", "well", "crash", "crash after ready", "well"]) {
      await tell(mode);
      const upgrade = await result();
      assertEquals(typeof upgrade.processId === "number", mode === "well", `${mode}: ${JSON.stringify(upgrade)}`);
      pids.push((await server.who()).pid);
    }
    assertEquals(new Set(pids).size, 3);
    assertEquals([pids[2], pids[3]], [pids[1], pids[1]], "failed versions change nothing");
  });
});

for (const mode of ["slow", "well"]) {
  Deno.test({
    name: `a supervisor that is killed ${
      mode === "slow" ? "before" : "in"
    } the trial of a version leaves one that accepts`,
    // There the versions end with it.
    ignore: Deno.build.os === "windows",
    async fn() {
      await withSupervisor(async ({ child, server, tell, result }) => {
        await tell("well");
        const { processId: first } = await result();
        await tell(mode);
        if (mode === "slow") assertEquals(await server.line(), "initialising");
        else await server.next();
        child.kill("SIGKILL");
        await child.status;
        if (mode === "slow") await new Promise((resolve) => setTimeout(resolve, 2_000));
        else await until(() => !isRunning(first!), "the version that was replaced has ended");
        const serving = mode === "slow" ? first : server.versions.at(-1)!.pid;
        for (let count = 0; count < 10; count++) assertEquals((await server.who()).pid, serving);
      });
    },
  });
}

/** How this process, which keeps its listener, has another version serve. */
const quietVersion = (mode: string) => ({
  script: new URL("../children/quiet_version.ts", import.meta.url),
  denoFlags: ["--no-check", "--cached-only", "--allow-env"],
  args: [mode],
  probation: 0,
  supervise: true,
});

async function untilEnded(processId: number, listener: Listener): Promise<void> {
  await until(() => {
    try {
      defaultProvider().withdraw(duplicateSocket(listener, processId));
      return false;
    } catch {
      return true;
    }
  }, `process ${processId} has ended`);
}

Deno.test("an upgrade waits for the connections that were accepted, and says how many it waited for in vain", async () => {
  using version = await inherit({ predecessor: 0 });
  const listener = version.listen("http", { hostname: "127.0.0.1", port: 0 });
  await version.markReady();
  using _client = await connect({ port: listener.addr.port });
  using server = await listener.accept();
  const first = await upgrade(version, { ...quietVersion("well"), drainTimeout: 100 });
  assertEquals(first.remaining, 1);
  const upgrading = upgrade(version, { ...quietVersion("well"), drainTimeout: 20_000 });
  // Then the second version serves.
  await untilEnded(first.processId, listener);
  server.close();
  const { processId, remaining } = await within(10_000, upgrading);
  assertEquals(remaining, 0);
  Deno.kill(processId, "SIGKILL");
});

Deno.test("a new version that fails is ended, and leaves no descriptor here", async () => {
  using version = await inherit({ predecessor: 0 });
  const listener = version.listen("http", { hostname: "127.0.0.1", port: 0 });
  await version.markReady();
  const fail = async (mode: string, timeout: number) => {
    return await assertRejects(() => upgrade(version, { ...quietVersion(mode), timeout }), UpgradeError);
  };
  const failAll = async () => {
    const hung = await fail("hang", 500);
    assertEquals(hung.outcome, "timeout", hung.reason);
    await untilEnded(Number(/^process (\d+) /.exec(hung.reason)?.[1]), listener);
    const refused = await fail("take no listener", 10_000);
    assertEquals([refused.outcome, refused.reason.includes("takes no listeners")], ["refused", true], refused.reason);
  };
  await failAll();
  // On Linux connections to a rendezvous stay open for a moment.
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  const before = openStreams(Deno.pid).length;
  await failAll();
  await until(() => openStreams(Deno.pid).length <= before, `there are ${before} descriptors again`);
});

Deno.test("a connection that was closed is refused before anything is started", async () => {
  using version = await inherit({ predecessor: 0 });
  await version.markReady();
  using open = await connection();
  using closed = await connection();
  closed.server.close();
  const connections = [open, closed].map(({ server }) => ({ socket: server }));
  const { codeName, message } = await assertRejects(
    () => upgrade(version, { command: "no such program", connections }),
    WinsockError,
  );
  assertEquals([codeName, message.includes("it was closed, handed off or released before")], ["WSAENOTSOCK", true]);
  assertEquals(open.server.remoteAddr.port > 0, true);
  await assertRejects(() => upgrade(version, { command: "no such program" }), UpgradeError, "cannot be started");
});

Deno.test("durations that no timer can wait for are refused before anything is started", async () => {
  using version = await inherit({ predecessor: 0 });
  await version.markReady();
  const upgradeWith = (options: UpgradeSettings) => {
    return upgrade(version, { command: "no such program", ...options });
  };
  for (const name of ["timeout", "probation", "drainTimeout"] as const) {
    for (const value of [-1, NaN, 2 ** 31, Infinity]) {
      await assertRejects(() => upgradeWith({ [name]: value }), RangeError, `Invalid \`${name}\`: must be from`);
    }
  }
  await assertRejects(() => upgradeWith({ timeout: 0 }), RangeError, "Invalid `timeout`: must be from 1 to");
  await assertRejects(() => upgradeWith({}), UpgradeError, "cannot be started");
});

Deno.test("without the permission to run it, a new version is not said to have crashed", {
  permissions: { ffi: true, read: true },
}, async () => {
  using version = await inherit({ predecessor: 0 });
  await version.markReady();
  const upgrading = () => upgrade(version, { script: "server.ts" });
  await assertRejects(upgrading, Deno.errors.NotCapable, "run access");
  // Nor is the next one said to come during another.
  await assertRejects(upgrading, Deno.errors.NotCapable, "run access");
});
