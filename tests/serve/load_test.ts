// `handoff serve` under load: who answers, what ends with a worker, and what a replacement costs.
import { assert, assertEquals } from "@std/assert";
import { until, within } from "../kit/process.ts";
import { runUpgrades } from "../upgrade/load.ts";
import { measureShares } from "./fairness.ts";
import { startServe } from "./replaceable.ts";
import { get, ServeProcess } from "./serve_process.ts";

const HONO = new URL("hono_app.ts", import.meta.url).href;
const OAK = new URL("oak_app.ts", import.meta.url).href;
/** Starting a process takes seconds under Wine. */
const CASES = Deno.build.os === "windows"
  ? [["connections", 2], ["listener", 4]] as const
  : [["connections", 2], ["connections", 4], ["listener", 2], ["listener", 4]] as const;

/** A connection that is kept, and the process at its other end. */
class KeptConnection implements Disposable {
  readonly #conn: Deno.Conn;

  private constructor(conn: Deno.Conn) {
    this.#conn = conn;
  }

  static async open(port: number): Promise<KeptConnection> {
    return new KeptConnection(await Deno.connect({ hostname: "127.0.0.1", port }));
  }

  /** The process that answers; `undefined` if the connection has ended. */
  async ask(): Promise<string | undefined> {
    try {
      await this.#conn.write(new TextEncoder().encode("GET /pid HTTP/1.1\r\nhost: test\r\n\r\n"));
      const buffer = new Uint8Array(1_024);
      const count = await within(20_000, this.#conn.read(buffer));
      const text = new TextDecoder().decode(buffer.subarray(0, count ?? 0));
      return /^HTTP\/1.1 200 OK\r\n[^]*\r\n\r\n(\d+)$/.exec(text)?.[1];
    } catch (error) {
      if (error instanceof Deno.errors.ConnectionReset || error instanceof Deno.errors.BrokenPipe) return undefined;
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#conn.close();
  }
}

for (const [how, workers] of CASES) {
  Deno.test(`serve: all ${workers} workers answer, and one that is killed under load takes only its own connections along: ${how}`, async () => {
    await using server = await ServeProcess.start(["--workers", String(workers), "--distribute", how, HONO]);
    using connections = new DisposableStack();
    const kept: { connection: KeptConnection; worker: string }[] = [];
    await until(async () => {
      const opened = await Promise.all(Array.from({ length: 8 }, () => KeptConnection.open(server.port)));
      const answers = await Promise.all(opened.map((connection) => connections.use(connection).ask()));
      kept.push(...opened.map((connection, index) => ({ connection, worker: answers[index] ?? "" })));
      return new Set(answers).size > 1 && new Set(kept.map(({ worker }) => worker)).size === workers;
    }, "all workers have connections");
    const load = server.load(8);
    const victim = kept[0]!.worker;
    Deno.kill(Number(victim), "SIGKILL");
    for (let round = 0; round < 3; round++) {
      for (const { connection, worker } of kept) {
        assertEquals(await connection.ask(), worker === victim ? undefined : worker);
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    await until(() => server.errors.some((line) => line.includes(`(process ${victim}) ended: `)), "it is told");
    const { requests, failures } = await load.end();
    // Those that the worker had, at most one for each client.
    assert(failures.length <= 8, failures.join("\n"));
    assert(failures.every((failure) => !failure.includes("ECONNREFUSED")), failures.join("\n"));
    assert(requests > 20, `${requests} requests`);
    assertEquals((await server.load(4).end()).failures, []);
  });
}

for (const how of ["connections", "listener"]) {
  const plan = ["restart", "upgrade"] as const;
  Deno.test(`serve: workers and server are replaced under load of 32 clients, and no request fails: ${how}`, async () => {
    await using server = await startServe(how, 2, plan);
    const { during, problems, processes } = await runUpgrades(server, plan.length, 300);
    assertEquals(problems, {});
    assertEquals(new Set(processes).size, 2);
    assert(during.requests > 0);
  });
}

Deno.test("serve: no worker gets less than a third of its share of short connections", async () => {
  const [workers, connections] = Deno.build.os === "windows" ? [2, 300] : [4, 1_000];
  const tries: string[] = [];
  // While other programs keep the processors busy, a worker may not be run for most of so short a time.
  for (let attempt = 0; attempt < 3; attempt++) {
    const shares = await measureShares("listener", workers, connections);
    if (shares[0]! >= 1 / 3) return;
    tries.push(shares.join(" "));
  }
  assert(false, tries.join("\n"));
});

Deno.test("serve: what a Hono application lets go does it no harm", async () => {
  await using server = await ServeProcess.start(["--workers", "1", HONO]);
  for (let count = 0; count < 2; count++) assertEquals((await get(server.port, "/throw")).status, 500);
  assertEquals((await get(server.port, "/some")).text, "/some");
  await until(() => server.errors.some((line) => line.includes("no error")), "it is told");
});

Deno.test("serve: an Oak application is served", async () => {
  await using server = await ServeProcess.start(["--workers", "2", OAK], [], ["--allow-env", "--allow-read"]);
  await server.untilAnswered(2);
  assertEquals((await get(server.port, "/none")).status, 404);
  const response = await fetch(`http://127.0.0.1:${server.port}/echo`, { method: "POST", body: "hello" });
  assertEquals([response.status, await response.text()], [200, "hello"]);
});
