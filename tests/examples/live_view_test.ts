// What the live view says of a server while it is used, loses a worker, and is replaced.
import { assert, assertEquals, assertMatch } from "@std/assert";
import { RawClient } from "../kit/http_client.ts";
import { Events, lingering, request, startLiveView } from "../kit/live_view.ts";
import { until, within } from "../kit/process.ts";

async function post(page: string, more: Record<string, string>): Promise<number> {
  const headers = { connection: "close", ...more };
  const response = await within(20_000, fetch(`${page}/upgrade`, { method: "POST", headers }));
  await response.body?.cancel();
  return response.status;
}

Deno.test("the live view counts, sees a worker end, and follows an upgrade", async () => {
  await using server = await startLiveView();
  const { child, url, page } = server;
  await using events = await Events.open(page);
  const first = await events.until(({ state }) => state === "serving");
  assertEquals([first!.version, first!.processId, first!.taken], [1, child.pid, 0]);
  assertEquals(first!.workers.map(({ state }) => state), Array(4).fill("ready"));

  const answers = await request(url, 12);
  const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0);
  const busy = await events.until(({ perSecond, held }) => sum(perSecond) === 12 && held === 0);
  assertEquals(busy!.taken, 12);
  assertEquals(sum(busy!.workers.map(({ taken }) => taken)), 12);
  assert(busy!.p50! > 0 && busy!.p50! <= busy!.p99!, `${busy!.p50} ${busy!.p99}`);
  for (const { processId, taken } of busy!.workers) {
    assertEquals(answers.filter((answer) => answer.includes(`process ${processId}\n`)).length, taken);
  }
  assertEquals(sum(busy!.workers.flatMap(({ perSecond }) => perSecond)), 12);

  const metrics = await within(20_000, fetch(`${page}/metrics`, { headers: { connection: "close" } }));
  assertEquals(metrics.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  const samples = (await metrics.text()).split("\n").filter((line) => !line.startsWith("#"));
  for (const sample of ["handoff_taken_total 12", 'handoff_workers{state="ready"} 4', "handoff_in_flight 0"]) {
    assert(samples.includes(sample), `${sample}: ${samples.join("\n")}`);
  }
  for (const { index } of busy!.workers) assert(samples.includes(`handoff_worker_restarts_total{worker="${index}"} 0`));

  const victim = busy!.workers[1]!;
  Deno.kill(victim.processId, "SIGKILL");
  const ended = await events.until(({ workers }) => workers[1]!.state === "ended");
  assertMatch(ended!.log.at(-1)!.text, new RegExp(`^Worker 1, process ${victim.processId}, ended: `));
  const replaced = await events.until(({ workers }) => workers[1]!.state === "ready");
  assertEquals(replaced!.workers[1]!.restarts, 1);
  assert(replaced!.workers[1]!.processId !== victim.processId);

  const kept = await lingering(url);
  assertEquals(await post(page, {}), 403);
  assertEquals(await post(page, { origin: "http://example.com" }), 403);
  {
    using rebound = await RawClient.connect(Number(new URL(page).port));
    await rebound.send("GET /events HTTP/1.1", "Host: example.com", "");
    assertEquals((await rebound.response()).status, 421);
  }
  assertEquals(await post(page, { origin: page }), 202);
  await events.until(({ state }) => state === "upgrading");
  assertEquals(await post(page, { origin: page }), 202);
  const drained = await events.until(({ state }) => state === "draining");
  assertEquals([drained!.processId, drained!.held], [child.pid, 1]);
  // Over a connection the old version still has this would be an empty stream, and a browser would ask again.
  let second: Awaited<ReturnType<Events["until"]>>;
  await until(async () => {
    await using following = await Events.open(page);
    second = await following.until(({ state }) => state === "serving");
    return second !== undefined;
  }, "the next version says something");
  assert(second!.processId !== child.pid && second!.version === 2);
  assertMatch(second!.log[0]!.text, new RegExp(`takes over from process ${child.pid}$`));
  assertEquals(await server.nextLine(), `Process ${second!.processId} serves ${url}, and shows it at ${page}`);

  const workers = second!.workers.map(({ processId }) => processId);
  for (const answer of await request(url, 4)) {
    assert(workers.some((processId) => answer.includes(`process ${processId}\n`)), answer);
  }
  kept[Symbol.dispose]();
  assertEquals((await events.until(({ state }) => state === "ended"))!.workers.map(({ state }) => state), [
    ...Array(4).fill("ended"),
  ]);
  assertEquals(await events.until(() => false), undefined);
  assertEquals((await within(20_000, child.status)).code, 0);
});

Deno.test("the live view shows workers that accept themselves: their connections, their restarts, an upgrade", async () => {
  await using server = await startLiveView("listener");
  const { child, url, page } = server;
  await using events = await Events.open(page);
  await events.until(({ state }) => state === "serving");
  const answers = await request(url, 12);
  const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0);
  const busy = await events.until(({ perSecond, held }) => sum(perSecond) === 12 && held === 0);
  assertEquals([busy!.taken, busy!.p50], [12, null]);
  for (const { processId, taken, perSecond } of busy!.workers) {
    assertEquals(answers.filter((answer) => answer.includes(`process ${processId}\n`)).length, taken);
    assertEquals(sum(perSecond), taken);
  }
  Deno.kill(busy!.workers[1]!.processId, "SIGKILL");
  await events.until(({ workers }) => workers[1]!.state === "ended");
  const replaced = await events.until(({ workers }) => workers[1]!.state === "ready");
  assertEquals(replaced!.workers.map(({ restarts }) => restarts), [0, 1, 0, 0]);

  const kept = await lingering(url);
  assertEquals((await events.until(({ held }) => held === 1))!.taken, 13);
  assertEquals(await post(page, { origin: page }), 202);
  assertMatch(await server.nextLine() ?? "", / serves /);
  kept[Symbol.dispose]();
  assertEquals(await events.until(() => false), undefined);
  assertEquals((await within(20_000, child.status)).code, 0);
  const [answer] = await request(url, 1);
  assert(!busy!.workers.some(({ processId }) => answer!.includes(`process ${processId}\n`)));
});
