// When a version may be replaced, by what, and how its supervisor hears of its end and causes it.
import { assertEquals, assertRejects } from "@std/assert";
import {
  connect,
  inherit,
  onUpgradeRequest,
  requestUpgrade,
  type ServerVersion,
  upgrade,
  UpgradeError,
  type UpgradeOptions,
} from "@winsock/handoff";
import { runFlags } from "../../handoff/upgrade/upgrade.ts";
import { Successor, UpgradeChannel } from "../../handoff/upgrade/upgrade_channel.ts";
import { unixSystem } from "../../ffi/unix/libc.ts";
import { LINUX } from "../../ffi/unix/linux.ts";
import { splitCommandLine } from "../../ffi/windows/libraries.ts";
import { connection, readText, writeText } from "../kit/connections.ts";
import { endChild, FFI_GRANT, lines, RUN, until, within } from "../kit/process.ts";
import { isRunning } from "../kit/process_state.ts";

const script = new URL("../children/telling_version.ts", import.meta.url);

interface About {
  pid: number;
  args: string[];
  predecessor?: number;
  net: string;
  otherNet: string;
  kv: boolean;
}

/** What the version that serves says of itself, or of what it is told to do. */
async function ask(port: number, what = "who"): Promise<About & { processId?: number; error?: string }> {
  using conn = (await connect({ port })).toConn();
  await conn.write(new TextEncoder().encode(`${what}\n`));
  return JSON.parse(await within(20_000, readText(conn, 4_000)));
}

/** How this process has a version serve in its place. */
function supervised(
  mode: string,
  options: Pick<UpgradeOptions, "args" | "denoFlags" | "probation" | "drainTimeout" | "supervise" | "signal"> = {},
): UpgradeOptions {
  return {
    script,
    denoFlags: ["--no-check", "--cached-only", "--allow-env", "--allow-run", "--allow-read"],
    args: [mode],
    timeout: 15_000,
    probation: 0,
    supervise: true,
    ...options,
  };
}

async function supervisor(): Promise<{ version: ServerVersion; port: number }> {
  const version = await inherit({ predecessor: 0 });
  return { version, port: version.listen("http", { hostname: "127.0.0.1", port: 0 }).addr.port };
}

Deno.test("a version that is not ready itself is not replaced, whoever asks", async () => {
  using version = await inherit({ predecessor: 0 });
  version.listen("http", { hostname: "127.0.0.1", port: 0 });
  const replace = () => upgrade(version, { command: "no such program" });
  const { outcome } = await assertRejects(replace, UpgradeError, "has not called markReady()");
  assertEquals(outcome, "not-ready");
  const controlFile = await Deno.makeTempFile();
  try {
    using _requests = onUpgradeRequest(replace, { controlFile });
    const asked = await assertRejects(() => within(10_000, requestUpgrade(controlFile)), UpgradeError);
    assertEquals(asked.outcome, "not-ready");
    await version.markReady();
    const ready = await assertRejects(() => within(10_000, requestUpgrade(controlFile)), UpgradeError);
    assertEquals(ready.outcome, "crashed", ready.message);
  } finally {
    await Deno.remove(controlFile).catch(() => {});
  }
});

Deno.test("a new version that would be replaced before it is ready leaves the old one serving", async () => {
  const { version } = await supervisor();
  using _version = version;
  const { outcome, reason } = await assertRejects(
    () => within(30_000, upgrade(version, supervised("upgrade early"))),
    UpgradeError,
  );
  assertEquals([outcome, reason], ["refused", "not-ready"]);
});

Deno.test("a version that is replaced in its own trial waits for the end of it", async () => {
  using version = await inherit({ predecessor: 0 });
  const listener = version.listen("http", { hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  await version.markReady();
  const began = performance.now();
  const second = await within(
    30_000,
    upgrade(version, supervised("upgrade in trial", { supervise: false, probation: 1_500, drainTimeout: 0 })),
  );
  const trial = performance.now() - began;
  const { code } = await within(30_000, second.exited);
  assertEquals([code, trial >= 1_500], [7, true], "the second retires, and not before its trial is over");
  const { pid, predecessor } = await ask(port);
  assertEquals([predecessor, pid !== second.processId], [second.processId, true]);
  Deno.kill(pid, "SIGKILL");
});

Deno.test("a supervisor hears how its version ended, and has another serve", async () => {
  const { version, port } = await supervisor();
  using _version = version;
  const first = await within(30_000, upgrade(version, supervised("well")));
  assertEquals((await ask(port)).pid, first.processId);
  Deno.kill(first.processId, "SIGKILL");
  const { success, signal } = await within(10_000, first.exited);
  assertEquals([success, signal], [false, Deno.build.os === "windows" ? null : "SIGKILL"]);
  assertEquals(await first.retire(), await first.exited, "of one that has ended");
  const waiting = ask(port);
  const second = await within(30_000, upgrade(version, supervised("well")));
  assertEquals((await waiting).pid, second.processId);
  await second.retire();
});

Deno.test("a version that is retired finishes and ends, and clients wait for the next", async () => {
  const { version, port } = await supervisor();
  using _version = version;
  const first = await within(30_000, upgrade(version, supervised("well")));
  await ask(port);
  assertEquals(await within(10_000, first.retire()), { success: false, code: 7, signal: null });
  const waiting = ask(port);
  const second = await within(30_000, upgrade(version, supervised("never end")));
  assertEquals((await waiting).pid, second.processId);
  await assertRejects(() => second.retire({ drainTimeout: -1 }), RangeError, "Invalid `drainTimeout`");
  const began = performance.now();
  const { success, signal } = await within(10_000, second.retire({ drainTimeout: 300 }));
  assertEquals([success, signal], [false, Deno.build.os === "windows" ? null : "SIGKILL"]);
  assertEquals(performance.now() - began >= 290, true, "it has had its time");
});

Deno.test("a version that was replaced finishes in its own time, also if it is retired then", async () => {
  const { version } = await supervisor();
  using _version = version;
  const first = await within(30_000, upgrade(version, supervised("never end")));
  const second = await within(30_000, upgrade(version, supervised("well")));
  let ended = false;
  const retired = first.retire({ drainTimeout: 100 });
  retired.then(() => ended = true);
  await new Promise((resolve) => setTimeout(resolve, 500));
  assertEquals(ended, false);
  Deno.kill(first.processId, "SIGKILL");
  assertEquals(await within(10_000, retired), await first.exited);
  assertEquals((await within(10_000, second.retire())).code, 7);
});

Deno.test("a version that hangs is replaced: its supervisor ends it, and the new version serves", async () => {
  const { version, port } = await supervisor();
  using _version = version;
  const first = await within(30_000, upgrade(version, supervised("well")));
  await ask(port, "hang");
  await new Promise((resolve) => setTimeout(resolve, 200));
  // A cancelled upgrade leaves it alone.
  const abort = new AbortController();
  const cancelled = upgrade(version, supervised("well", { signal: abort.signal }));
  setTimeout(() => abort.abort(new Error("not now")), 3_000);
  await within(10_000, assertRejects(() => cancelled, Error, "not now"));
  const still = await Promise.race([first.exited, new Promise((resolve) => setTimeout(resolve, 100, "runs"))]);
  assertEquals(still, "runs");
  await first.retire({ drainTimeout: 0 });
  const second = await within(30_000, upgrade(version, supervised("well")));
  await ask(port, "hang");
  // The time in which the new version must be ready does not count for the old one.
  const third = await within(40_000, upgrade(version, { ...supervised("well"), timeout: 5_000 }));
  const { success, signal } = await within(1_000, second.exited);
  assertEquals([success, signal], [false, Deno.build.os === "windows" ? null : "SIGKILL"]);
  assertEquals((await ask(port)).pid, third.processId);
  await third.retire();
});

/** A version that serves, of which a test says what it answers. */
async function answering(
  test: (successor: Successor, said: Deno.Conn, killed: () => boolean) => Promise<void>,
): Promise<void> {
  using pair = await connection();
  using said = pair.client.toConn();
  const status = Promise.withResolvers<void>();
  let killed = false;
  const kill = () => {
    killed = true;
    status.resolve();
  };
  const channel = new UpgradeChannel(pair.server.toNodeSocket());
  try {
    await test(new Successor({ kill, status: status.promise } as never, channel), said, () => killed);
  } finally {
    channel.close();
  }
}

const ALIVE = '{"type":"alive"}\n';
const PAUSED = '{"type":"paused"}\n';

Deno.test("a version that answers may take its time to stop accepting, and is ended after that", async () => {
  const never = new Promise<never>(() => {});
  const asks = '{"type":"check"}\n{"type":"pause"}\n';
  await answering(async (successor, said, killed) => {
    const pausing = successor.pause(5_000, never);
    assertEquals(await within(5_000, readText(said, asks.length)), asks);
    await writeText(said, ALIVE);
    await new Promise((resolve) => setTimeout(resolve, 300));
    await writeText(said, PAUSED);
    await within(1_000, pausing);
    assertEquals(killed(), false);
  });
  await answering(async (successor, said, killed) => {
    await writeText(said, ALIVE);
    await within(5_000, successor.pause(300, never));
    assertEquals(killed(), true, "it still accepts");
  });
  await answering(async (successor, said, killed) => {
    said.close();
    await within(5_000, successor.pause(5_000, never));
    assertEquals(killed(), true, "it says no more");
  });
  await answering(async (successor, said, killed) => {
    await writeText(said, ALIVE);
    const givenUp = Promise.withResolvers<never>();
    const pausing = assertRejects(() => successor.pause(5_000, givenUp.promise), Error, "not now");
    await within(5_000, readText(said, asks.length));
    givenUp.reject(new Error("not now"));
    await within(1_000, pausing);
    // The answer to the first is not the answer to the second.
    let paused = false;
    const again = successor.pause(5_000, never).then(() => paused = true);
    await writeText(said, PAUSED + ALIVE);
    await within(5_000, readText(said, asks.length));
    await new Promise((resolve) => setTimeout(resolve, 300));
    assertEquals([paused, killed()], [false, false]);
    await writeText(said, PAUSED);
    await within(1_000, again);
  });
});

Deno.test("a version that does not stop accepting itself says so, and goes on", async () => {
  using version = await inherit({ predecessor: 0 });
  const listener = version.listen("http", { hostname: "127.0.0.1", port: 0 });
  await version.markReady();
  const pause = Promise.withResolvers<void>();
  listener.pause = () => pause.promise;
  const options = supervised("well", { supervise: false });
  const { outcome, reason } = await within(
    30_000,
    assertRejects(() => upgrade(version, { ...options, timeout: 3_000 }), UpgradeError),
  );
  assertEquals([outcome, reason], ["timeout", "this version has not stopped accepting in 3000 ms"]);
  pause.resolve();
  using client = await connect({ port: listener.addr.port });
  using server = await within(5_000, listener.accept());
  assertEquals(server.remoteAddr, client.localAddr);
});

Deno.test({
  name: "SIGTERM to a supervisor that retires its version leaves neither behind",
  ignore: Deno.build.os === "windows",
  async fn() {
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        ...RUN,
        FFI_GRANT,
        "--allow-run",
        "--allow-env",
        new URL("../children/retiring_supervisor.ts", import.meta.url).href,
      ],
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const line = lines(child as Deno.ChildProcess);
    try {
      const { port, processId } = JSON.parse(await line() ?? "{}");
      assertEquals((await ask(port)).pid, processId);
      Deno.kill(processId, "SIGKILL");
      const again = JSON.parse(await line() ?? "{}");
      assertEquals((await ask(port)).pid, again.processId);
      child.kill("SIGTERM");
      assertEquals(JSON.parse(await line() ?? "{}"), { success: false, code: 7, signal: null });
      assertEquals((await within(10_000, child.status)).success, true);
      await until(() => !isRunning(again.processId), "the version has ended");
    } finally {
      await endChild(child as Deno.ChildProcess);
    }
  },
});

Deno.test("waiting for `confirmed` keeps a process running, and nothing else about it does", async () => {
  const { version } = await supervisor();
  using _version = version;
  const waits = await within(30_000, upgrade(version, supervised("only wait", { probation: 1_000 })));
  assertEquals((await within(10_000, waits.exited)).code, 9);
  const ends = await within(30_000, upgrade(version, supervised("wait for nothing")));
  assertEquals((await within(10_000, ends.exited)).code, 0);
});

Deno.test("an upgrade that is cancelled ends the new version, and changes nothing", async () => {
  const { version, port } = await supervisor();
  using _version = version;
  const serving = await within(30_000, upgrade(version, supervised("well")));
  const reason = new Error("not now");
  await assertRejects(
    () => upgrade(version, { command: "no such program", supervise: true, signal: AbortSignal.abort(reason) }),
    Error,
    "not now",
  );
  const abort = new AbortController();
  const cancelled = upgrade(version, supervised("never ready", { signal: abort.signal }));
  const refused = assertRejects(() => cancelled, Error, "not now");
  await assertRejects(() => upgrade(version, supervised("well")), UpgradeError, "busy");
  setTimeout(() => abort.abort(reason), 1_000);
  await within(10_000, refused);
  assertEquals((await ask(port)).pid, serving.processId);
  // Once the new one serves there is nothing to cancel.
  const late = new AbortController();
  const next = await within(30_000, upgrade(version, supervised("well", { signal: late.signal })));
  late.abort(reason);
  assertEquals((await ask(port)).pid, next.processId);
  await within(10_000, serving.exited);
  await next.retire();
});

Deno.test({
  name: "the next version has this one's arguments and flags, unless others are given",
  // Linux in the manner of macOS has not its functions for that.
  ignore: Deno.build.os === "linux" && unixSystem() !== LINUX,
  async fn() {
    const { version, port } = await supervisor();
    using _version = version;
    const args = ["well", "two words", "", '"quoted"', "back\\slash\\", "--flag"];
    const flags = ["--allow-net=example.com", "--allow-run", "--allow-env", "--unstable-kv", ...RUN.slice(3)];
    const first = await within(30_000, upgrade(version, supervised("", { args, denoFlags: flags })));
    const { processId, error } = await ask(port, "upgrade");
    assertEquals(error, undefined);
    assertEquals(await ask(port), {
      pid: processId!,
      args,
      predecessor: first.processId,
      net: "granted",
      otherNet: "prompt",
      kv: true,
    });
    assertEquals((await within(10_000, first.exited)).code, 7);
    Deno.kill(processId!, "SIGKILL");
  },
});

Deno.test("the flags in a command line are found by the arguments behind them", () => {
  const of = (line: string[], args: string[] = []) => runFlags(line, args);
  assertEquals(of(["deno", "run", "-A", "s.ts"]), ["-A"]);
  assertEquals(of(["deno", "run", "--config", "c.json", "-A", "s.ts", "-N", ""], ["-N", ""]), [
    "--config",
    "c.json",
    "-A",
  ]);
  assertEquals(of(["deno", "--quiet", "run", "s.ts", "run"], ["run"]), ["--quiet"]);
  assertEquals(of(["deno", "-A", "s.ts"]), ["-A"]);
  assertEquals(of(["deno", "s.ts"]), []);
  assertEquals(of(["deno", "run", "--watch=a", "--watch-hmr", "--inspect-brk=0.0.0.0:1", "--check", "--", "s.ts"]), [
    "--check",
  ]);
  // What is not `deno run`, or not this process's.
  assertEquals(of(["deno", "test", "-A", "run", "a_test.ts"]), undefined);
  assertEquals(of(["deno", "run", "s.ts", "a"], ["b"]), undefined);
  assertEquals(of(["deno"]), undefined);
});

Deno.test("a command line of Windows is told apart as Windows does", () => {
  for (
    const [line, ...words] of [
      ['"C:\\Program Files\\deno.exe" run  -A', "C:\\Program Files\\deno.exe", "run", "-A"],
      ['deno "a b"c\t"d\\\\" e\\f "" g\\"h', "deno", "a bc", "d\\", "e\\f", "", 'g"h'],
      ["C:\\bin\\deno", "C:\\bin\\deno"],
      ['deno "\\\\server\\a b\\\\" "x\\\\\\"y"', "deno", "\\\\server\\a b\\", 'x\\"y'],
    ] as const
  ) assertEquals(splitCommandLine(line), words as readonly string[] as string[], line);
});
