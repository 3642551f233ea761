// A browser's page and WebSocket, answered by workers that were handed the connections.
import { assert, assertEquals, assertMatch } from "@std/assert";
import { listen, WorkerPool } from "@winsock/handoff";
import { haveBrowser, openBrowser } from "../kit/browser.ts";
import { countDescriptors, settledDescriptors } from "../kit/descriptors.ts";
import { until, within } from "../kit/process.ts";

Deno.test({
  name: "a browser talks to workers over a WebSocket, text and bytes, and to another when its worker dies",
  ignore: !haveBrowser(),
  async fn() {
    await using pool = new WorkerPool({
      script: new URL("../children/page_worker.ts", import.meta.url),
      denoFlags: ["--no-check", "--cached-only"],
      size: 2,
    });
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    const accepting = (async () => {
      for await (const socket of listener) pool.dispatch(socket).catch(() => socket.close());
    })();
    await within(20_000, pool.ready);
    await using browser = await openBrowser();
    const { page, errors } = await browser.page();
    const [descriptors] = await settledDescriptors(Deno.pid);
    await page.goto(`http://127.0.0.1:${listener.addr.port}/`);
    const workers = pool.statistics.workers.map(({ processId }) => processId);

    const replies = () => page.$$eval("#replies li", (items) => items.map(({ textContent }) => textContent));
    const untilReplies = (count: number) => until(async () => (await replies()).length >= count, `${count} replies`);
    const answeringWorker = (reply: string | undefined) => {
      assertMatch(reply ?? "", /^worker \d+$/);
      const processId = Number(reply!.slice("worker ".length));
      assert(workers.includes(processId) && processId !== Deno.pid, `${processId}, and the workers are ${workers}`);
      return processId;
    };

    assert(workers.includes(Number(await page.$eval("#page", ({ textContent }) => textContent))));
    await untilReplies(1);
    await page.type("#text", "Grüße, 世界 👋");
    await page.click("#send");
    await untilReplies(2);
    await page.click("#send-bytes");
    await untilReplies(4);
    const [greeting, echo, sent, received] = await replies();
    const worker = answeringWorker(greeting);
    assertEquals(echo, "echo Grüße, 世界 👋");
    assertEquals(received, `100000 bytes, ${sent!.slice("sending ".length)}`);

    Deno.kill(worker, "SIGKILL");
    await untilReplies(6);
    const [closed, second] = (await replies()).slice(4);
    assertEquals(closed, "closed 1006");
    assertEquals(workers.filter((processId) => processId !== worker), [answeringWorker(second)]);
    assertEquals(errors, []);
    await page.close();
    await until(
      () => pool.statistics.workers.every(({ state, held }) => state === "ready" && held === 0),
      "the workers have closed what they had",
    );
    await until(() => countDescriptors() === descriptors, "no descriptor is left behind");
    listener.close();
    await accepting;
  },
});
