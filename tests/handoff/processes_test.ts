// Hand-offs between real processes that are killed, stopped or end by themselves, and what a target's process inherits.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { connect, HandoffSource, type HandoffSpawnOptions, type HandoffStep, TRACE_CHANNEL } from "@winsock/handoff";
import { inheritable } from "../../ffi/unix/descriptors.ts";
import { INVALID_SOCKET } from "../../ffi/platform.ts";
import { killProcess, spawnWorkerCommand } from "../../handoff/spawn.ts";
import diagnostics from "node:diagnostics_channel";
import { connection, readEnd, readText, writeText } from "../kit/connections.ts";
import { settledDescriptors } from "../kit/descriptors.ts";
import { duplicates, killed, outcome } from "../kit/handoffs.ts";
import { endChild, lines, spawnChild, STYLE, until, within } from "../kit/process.ts";
import { isRunning } from "../kit/process_state.ts";

const FLAGS = ["--no-check", "--cached-only", ...STYLE];
const onUnix = { ignore: Deno.build.os === "windows" };
const onLinux = { ignore: Deno.build.os !== "linux" };

/** A target that was started with its channel, and whose output the test reads. */
interface Spawned extends AsyncDisposable {
  readonly source: HandoffSource;
  readonly child: Deno.ChildProcess;
  line(): Promise<string | undefined>;
}

async function spawnTarget(
  script: string,
  args: string[] = [],
  grants: string[] = [],
  sendTimeout = 20_000,
): Promise<Spawned> {
  const program = { script: new URL(`../children/${script}`, import.meta.url), denoFlags: [...FLAGS, ...grants], args };
  const child = await spawnWorkerCommand(program, { output: "piped" });
  child.stderr.pipeTo(Deno.stderr.writable, { preventClose: true }).catch(() => {});
  const source = new HandoffSource(child, { sendTimeout });
  return {
    source,
    child,
    line: lines(child),
    async [Symbol.asyncDispose]() {
      await endChild(child);
      await within(20_000, source.closed);
    },
  };
}

/** Counts the offers that this process makes. */
function countOffers(): { readonly count: number } & Disposable {
  let count = 0;
  const watch = (message: unknown) => void ((message as HandoffStep).step === "offered" && count++);
  diagnostics.subscribe(TRACE_CHANNEL, watch);
  return {
    get count() {
      return count;
    },
    [Symbol.dispose]: () => void diagnostics.unsubscribe(TRACE_CHANNEL, watch),
  };
}

Deno.test("spawn starts a target and a source for it, and says so with the child", async () => {
  const options: HandoffSpawnOptions = { denoFlags: FLAGS, args: ["leave"], sendTimeout: 20_000 };
  const source = await HandoffSource.spawn(new URL("../children/exiting_target.ts", import.meta.url), options);
  const child = source.child as Deno.ChildProcess;
  try {
    await within(20_000, source.ready);
    using pair = await connection();
    await source.send(pair.server);
    assertEquals((await within(20_000, source.closed))?.reason, `process ${child.pid} takes no more sockets`);
    assertEquals(await outcome(source.send((await connection()).server)).then(([how]) => how), "closed");
  } finally {
    killProcess(child);
    await child.status;
  }
  for (const name of ["startTimeout", "sendTimeout"]) {
    for (const value of [0, NaN, 2 ** 31]) {
      const spawning = () => HandoffSource.spawn("no.ts", { [name]: value });
      await assertRejects(spawning, RangeError, `Invalid \`${name}\`: must be from 1 to 2147483647 ms, got ${value}`);
    }
  }
});

Deno.test("a target killed with sockets that its program has not seen gives back all of them", async () => {
  for (const accept of ["automatic", "manual"]) {
    await using target = await spawnTarget("slow_target.ts", ["10", "never", accept]);
    const { source, child } = target;
    using pair = await connection();
    using client = pair.client.toConn();
    const sockets = await duplicates(pair.server, 10);
    const sent = sockets.map((socket, data) => source.send(socket, { data }).then(() => undefined, (error) => error));
    assertEquals(await target.line(), "opened");
    child.kill("SIGKILL");
    const [first, ...others] = await within(20_000, Promise.all(sent));
    assertEquals(first === undefined, accept === "automatic", "what the program has taken is gone with it");
    for (const error of others) assertEquals([error.outcome, error.reason], ["target-exited", killed(child)]);
    const { outcome, reason } = (await source.closed)!;
    assertEquals([outcome, reason], ["target-exited", killed(child)]);
    for (const socket of sockets.slice(1)) {
      assert(socket.remoteAddr.port > 0);
      socket.close();
    }
    sockets[0]!.close();
    // They are as they were, and the connection was never ended.
    using conn = pair.server.toConn();
    await writeText(conn, "alive");
    assertEquals(await readText(client, 5), "alive");
  }
});

Deno.test("a target that exits is told of with its exit code", async () => {
  await using target = await spawnTarget("exiting_target.ts");
  const { source, child } = target;
  using pair = await connection();
  await source.send(pair.server);
  const failure = await within(20_000, source.closed);
  assertEquals([failure?.outcome, failure?.reason], ["target-exited", `process ${child.pid} exited with 7`]);
  assertEquals([failure?.exitCode, failure?.signal], [7, undefined]);
  assertEquals(await outcome(source.send((await connection()).server)), ["target-exited", failure!.reason]);
});

for (const accept of ["automatic", "manual"]) {
  // On Windows a child ends with its parent.
  Deno.test(`what has arrived is taken though the source was killed, ${accept}`, onUnix, async () => {
    const script = ["slow_target.ts", "5", "source's end", accept];
    const relay = spawnChild("relay_source.ts", ["5", ...script], ["--allow-run"]);
    const line = lines(relay);
    let target = 0;
    const clients: Deno.Conn[] = [];
    try {
      const [, port, processId] = /^port (\d+) target (\d+)$/.exec(await line() ?? "")!;
      target = Number(processId);
      for (let count = 0; count < 5; count++) clients.push((await connect({ port: Number(port) })).toConn());
      let said = await line();
      while (said !== "opened") {
        assert(said === "sent 0", `it says ${said}`);
        said = await line();
      }
      relay.kill("SIGKILL");
      const taken: string[] = [];
      for (let text = await line(); text !== "end" && text !== undefined; text = await line()) {
        if (text.startsWith("took")) taken.push(text);
      }
      assertEquals(taken, [0, 1, 2, 3, 4].map((data) => `took ${data}`));
      for (const [data, client] of clients.entries()) {
        assertEquals(await readText(client, 7), `yours ${data}`);
        assert(await readEnd(client));
      }
    } finally {
      for (const client of clients) client.close();
      await endChild(relay);
      await until(() => !isRunning(target), "the target ends by itself");
    }
  });
}

Deno.test("sends to a target that is stopped end at their deadline, however much is on the way", onUnix, async () => {
  const timeout = 1_500;
  await using target = await spawnTarget("echo.ts", [], [], timeout);
  const { source, child } = target;
  await within(20_000, source.ready);
  using pair = await connection();
  const sockets = await duplicates(pair.server, 80);
  using offers = countOffers();
  child.kill("SIGSTOP");
  await until(() => stateOf(child.pid) === "T", "it is stopped");
  const data = "x".repeat(1024 * 1024 - 2);
  const began = performance.now();
  const late: number[] = [];
  const sent = sockets.map(async (socket, index) => {
    // Four with as much as there can be fill what may be on its way; later ones are small.
    const end = await outcome(source.send(socket, index < 8 ? { data } : {}));
    late.push(performance.now() - began - timeout);
    return end;
  });
  for (const end of await within(20_000, Promise.all(sent))) {
    assertEquals(end, ["timeout", `process ${child.pid} did not take it in ${timeout} ms`]);
  }
  const latest = Math.max(...late);
  assert(Math.min(...late) > -100 && latest < 1_500, `the last was told ${latest.toFixed()} ms after its deadline`);
  assert(offers.count <= 64, `${offers.count} were offered`);
  assertEquals(source.inFlight, 0);
  for (const socket of sockets) {
    assert(socket.remoteAddr.port > 0);
    socket.close();
  }
  // It finds them withdrawn, answers all, and takes what comes then.
  child.kill("SIGCONT");
  using other = await connection();
  await within(20_000, source.send(other.server));
  using client = other.client.toConn();
  await writeText(client, "alive");
  assertEquals(await readText(client, 5), "alive");
});

Deno.test(
  "a target that is stopped gets no more than 64 sockets; the others wait, and go on when it does",
  onUnix,
  async () => {
    await using target = await spawnTarget("echo.ts");
    const { source, child } = target;
    await within(20_000, source.ready);
    using pair = await connection();
    const sockets = await duplicates(pair.server, 150);
    using offers = countOffers();
    child.kill("SIGSTOP");
    await until(() => stateOf(child.pid) === "T", "it is stopped");
    const sent = sockets.map((socket) => source.send(socket));
    await until(() => offers.count === 64, "64 are offered");
    await new Promise((resolve) => setTimeout(resolve, 300));
    assertEquals([offers.count, source.inFlight], [64, 150]);
    child.kill("SIGCONT");
    await within(20_000, Promise.all(sent));
    assertEquals(offers.count, 150);
    for (const { handle } of sockets) assertEquals(handle, INVALID_SOCKET);
  },
);

Deno.test(
  "a target stopped at any moment, and continued after the withdrawal, never owns what came back",
  onUnix,
  async () => {
    await using target = await spawnTarget("echo.ts");
    const { source, child } = target;
    await within(20_000, source.ready);
    const owners = { source: 0, target: 0 };
    for (let round = 0; round < 20; round++) {
      const pairs = await Promise.all(Array.from({ length: 8 }, () => connection()));
      const signal = AbortSignal.timeout(120);
      const sent = pairs.map(({ server }) =>
        source.send(server, { signal }).then(() => "target" as const, () => "source" as const)
      );
      const pause = performance.now() + (round % 5) * 0.2;
      while (performance.now() < pause);
      child.kill("SIGSTOP");
      const ends = await within(20_000, Promise.all(sent));
      child.kill("SIGCONT");
      for (const [index, { client, server }] of pairs.entries()) {
        const owner = ends[index]!;
        owners[owner]++;
        assertEquals(server.handle === INVALID_SOCKET ? "target" : "source", owner);
        using conn = client.toConn();
        if (owner === "source") {
          using own = server.toConn();
          await writeText(own, "mine");
        } else {
          await writeText(conn, "mine");
        }
        assertEquals(await readText(conn, 4), "mine", `it is the ${owner}'s`);
      }
    }
    assert(owners.source > 0, `the target has taken all ${owners.target}`);
  },
);

/** The letter of a process's state on Linux, of macOS' ps. */
function stateOf(processId: number): string | undefined {
  if (Deno.build.os === "linux") return /\) (.)/.exec(Deno.readTextFileSync(`/proc/${processId}/stat`))?.[1];
  const { stdout } = new Deno.Command("ps", { args: ["-o", "stat=", "-p", String(processId)] }).outputSync();
  return new TextDecoder().decode(stdout).trim()[0];
}

/** This process's descriptors, and whether its children inherit each. */
function inheritableDescriptors(): number[] {
  return [...Deno.readDirSync("/proc/self/fd")].map(({ name }) => Number(name)).filter((fd) => {
    try {
      return fd > 2 && inheritable(BigInt(fd));
    } catch {
      return false;
    }
  });
}

Deno.test(
  "a target's ends are its own: what it starts, and what its source starts, inherits none of them",
  onLinux,
  async () => {
    const before = inheritableDescriptors();
    // What this process itself has inherited goes on to all.
    const everybodys = before.map((fd) => Deno.readLinkSync(`/proc/self/fd/${fd}`));
    await using target = await spawnTarget("inheritor.ts", [], ["--allow-run=sh"]);
    assertEquals(inheritableDescriptors(), before, "this process's children inherit no more than before");
    const { source } = target;
    // Before it calls receive, the target does not know of them.
    const ignorant = JSON.parse(await target.line() ?? "[]") as string[];
    assert(ignorant.some((line) => line.includes("socket:")), "they were inherited");
    using pair = await connection();
    await within(20_000, source.send(pair.server));
    const inherited = JSON.parse(await target.line() ?? "[]") as string[];
    const kept = inherited.filter((line) => /^([3-9]|\d\d+):.*(socket|pipe|memfd)/.test(line));
    assertEquals(kept.filter((line) => !everybodys.includes(line.replace(/^\d+:/, ""))), [], inherited.join(" "));
    assertEquals(inherited.at(-1), "read:", "a program that reads stdin reads the end");
    await within(20_000, source.send((await connection()).server));
  },
);

Deno.test("50 targets that were started and have ended leave no descriptor behind", async () => {
  const url = new URL("../children/over_at_once.ts", import.meta.url);
  const round = async () => {
    const source = await HandoffSource.spawn(url, { denoFlags: FLAGS, sendTimeout: 20_000 });
    assertEquals((await within(20_000, source.closed))?.outcome, "target-exited");
    await source.child.status;
  };
  const rounds = async (count: number) => {
    for (let done = 0; done < count; done += 5) await Promise.all(Array.from({ length: 5 }, round));
  };
  await rounds(5);
  const [before] = await settledDescriptors(Deno.pid);
  await rounds(50);
  let after = 0;
  await until(async () => {
    [after = 0] = await settledDescriptors(Deno.pid);
    return after <= before! + 5;
  }, `there are ${before} descriptors again, not ${after}`);
});

Deno.test(
  "a program that a target starts reads nothing of the protocol, though it inherits stdin",
  async () => {
    await using source = await HandoffSource.spawn(new URL("../children/spawning_worker.ts", import.meta.url), {
      denoFlags: [...FLAGS, "--allow-run"],
    });
    const ask = async (data: unknown) => {
      using pair = await connection();
      await source.send(pair.server, { data });
      using client = pair.client.toConn();
      return await within(20_000, new Response(client.readable).text());
    };
    assertEquals(await ask("first"), "first");
    const answers = await Promise.all(Array.from({ length: 100 }, (_, count) => ask(count)));
    assertEquals(answers, Array.from({ length: 100 }, (_, count) => String(count)));
    assertEquals(await ask("read"), "0 bytes");
  },
);

Deno.test("a target that starts a program with its stdin before it calls receive gets what is sent to it", async () => {
  await using target = await spawnTarget("spawning_worker.ts", ["before"], ["--allow-run"]);
  for (let count = 0; count < 20; count++) {
    using pair = await connection();
    await within(20_000, target.source.send(pair.server, { data: count }));
    using client = pair.client.toConn();
    assertEquals(await within(20_000, new Response(client.readable).text()), String(count));
  }
});

Deno.test("the source is told if a program of its target has read HELLO", async () => {
  await using target = await spawnTarget("spawning_worker.ts", ["too early"], ["--allow-run"]);
  using pair = await connection();
  const failure = await within(20_000, target.source.send(pair.server)).catch((error) => error);
  assertEquals(failure.outcome, "target-exited");
  assert(pair.server.handle !== INVALID_SOCKET, "and it stays here");
});

Deno.test("the error of a target that was killed has the signal", async () => {
  await using target = await spawnTarget("exiting_target.ts");
  await within(20_000, target.source.ready);
  const posting = target.source.postMessage("nobody reads it").catch((error) => error);
  killProcess(target.child);
  const failure = await within(20_000, target.source.closed);
  const { code, signal } = await target.child.status;
  assertEquals([failure?.exitCode, failure?.signal], [code, signal ?? undefined]);
  const { message, exitCode } = await posting;
  assertEquals([message, exitCode], [`Cannot send the message (target-exited): ${killed(target.child)}`, code]);
});
