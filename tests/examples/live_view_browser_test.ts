// The live view's page in a browser: load, a worker that ends, an upgrade, light and dark, narrow and wide.
import { assert, assertEquals, assertMatch } from "@std/assert";
import { haveBrowser, openBrowser } from "../kit/browser.ts";
import { RawClient } from "../kit/http_client.ts";
import { lingering, request, startLiveView } from "../kit/live_view.ts";
import { until } from "../kit/process.ts";

/** What the page shows, as it is written there. */
interface Shown {
  readonly status: string;
  readonly versions: readonly {
    readonly name: string;
    readonly state: string;
    readonly processId: number;
    readonly taken: string;
    readonly returned: string;
    readonly workers: readonly Record<"process" | "state" | "held" | "inFlight" | "returned" | "p50", string>[];
  }[];
  readonly log: readonly string[];
}

/** Reads the page; runs there. */
function readPage(): Shown {
  // deno-lint-ignore no-explicit-any -- the document of the browser
  const { document } = globalThis as any;
  // deno-lint-ignore no-explicit-any
  type Element = any;
  const field = (parent: Element, name: string) => parent.querySelector(`[data-field="${name}"]`)?.textContent ?? "";
  const worker = (row: Element) => ({
    process: field(row, "process"),
    state: field(row, "state"),
    held: field(row, "held"),
    inFlight: field(row, "inFlight"),
    returned: field(row, "returned"),
    p50: field(row, "p50"),
  });
  return {
    status: document.querySelector("#status").textContent,
    versions: [...document.querySelectorAll(".version")].map((card: Element) => ({
      name: field(card, "name"),
      state: card.querySelector(".state").textContent,
      processId: Number(card.dataset.processId),
      taken: field(card, "taken"),
      returned: field(card, "returned"),
      workers: [...card.querySelectorAll(".workers li:not(.head)")].map(worker),
    })),
    log: [...document.querySelectorAll("#log li span")].map(({ textContent }: Element) => textContent),
  };
}

Deno.test({
  name: "the live view's page shows load, a worker that ends, and both versions of an upgrade",
  ignore: !haveBrowser(),
  async fn() {
    await using server = await startLiveView();
    await using browser = await openBrowser();
    const { page, errors } = await browser.page();
    const foreign: string[] = [];
    page.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(`${server.page}/`) && url !== "data:,") foreign.push(url);
    });
    await page.setViewport({ width: 1280, height: 800 });
    await page.goto(server.page);
    const shown = () => page.evaluate(readPage);
    const untilShown = async (what: string, condition: (shown: Shown) => boolean) => {
      let last: Shown | undefined;
      await until(async () => condition(last = await shown()), what);
      return last!;
    };

    const { versions: [first] } = await untilShown("it serves", ({ status }) => status === "Serving");
    assertEquals([first!.name, first!.processId, first!.taken], ["Version 1", server.child.pid, "0"]);
    await request(server.url, 20);
    await untilShown("the requests are counted", ({ versions }) => {
      const { taken, workers } = versions[0]!;
      return taken === "20" && workers.every(({ p50, held }) => Number(p50) > 0 && held === "0");
    });

    // A worker that answers no more is offered a connection, ends, and the connection goes to another.
    const victim = Number(first!.workers[2]!.process);
    Deno.kill(victim, "SIGSTOP");
    const clients = await Promise.all(
      Array.from({ length: 4 }, () => RawClient.connect(Number(new URL(server.url).port))),
    );
    await untilShown("an offer is on its way", ({ versions }) => versions[0]!.workers[2]!.inFlight === "1");
    Deno.kill(victim, "SIGKILL");
    const afterwards = await untilShown("another worker is in its place, and the return is counted", (shown) => {
      const { returned, workers } = shown.versions[0]!;
      const { process, state } = workers[2]!;
      return returned === "1" && workers[2]!.returned === "1" && state === "ready" && Number(process) !== victim &&
        shown.log.some((text) => text === "A connection came back from worker 2");
    });
    assert(afterwards.log.some((text) => text.startsWith(`Worker 2, process ${victim}, ended: `)), `${afterwards.log}`);
    for (const client of clients) assertEquals((await client.get("/")).status, 200);

    const kept = await lingering(server.url);
    await page.click("#upgrade");
    await untilShown("the next version is starting", ({ status, versions }) => {
      return status === "Upgrading" && versions[1]?.name === "Version 2" && versions[1].state === "starting";
    });
    const both = await untilShown("the old version finishes, and the new one serves", ({ versions }) => {
      return versions[0]?.state === "finishing" && versions[1]?.state === "serving";
    });
    assertEquals(both.versions.map(({ name }) => name), ["Version 1", "Version 2"]);
    assertEquals(both.status, "Serving");
    assert(both.versions[0]!.workers.some(({ held }) => held.startsWith("≤ ")), "it has connections to finish");
    await assertFits();
    for (const client of [kept, ...clients]) client[Symbol.dispose]();
    const { versions, status, log } = await untilShown("only the new version is left", ({ versions }) => {
      return versions.length === 1 && versions[0]!.name === "Version 2";
    });
    assertEquals([status, versions[0]!.state], ["Serving", "serving"]);
    assert(log.includes("Version 1 has ended"), `${log}`);
    await request(server.url, 3);
    await untilShown("the new version counts", ({ versions }) => versions[0]!.taken === "3");
    assertMatch(await page.title(), /^Serving/);
    assertEquals([errors, foreign], [[], []]);

    async function assertFits() {
      for (const width of [375, 1280]) {
        await page.setViewport({ width, height: 800 });
        const needed = await page.evaluate("document.documentElement.scrollWidth");
        assertEquals(needed, width);
      }
    }
  },
});
