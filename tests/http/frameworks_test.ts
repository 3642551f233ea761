// What applications do with requests and responses, written with each framework, on both engines.
import { assert, assertEquals, assertMatch } from "@std/assert";
import { APPS, LIMIT, PAUSE } from "./apps.ts";
import { RawClient } from "../kit/http_client.ts";
import { eachEngine, start } from "../kit/http_server.ts";
import { within } from "../kit/process.ts";

/** The length of an upload, in bytes, and what of it fits into the buffers of this process and the system. */
const UPLOAD = 50_000_000;
const BUFFERED = 30_000_000;

/** A body that comes as fast as it is taken, and how much of it has been. */
function bodyOf(length: number) {
  const piece = new Uint8Array(100_000).fill(65);
  const state = { taken: 0 };
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
    pull(controller) {
      controller.enqueue(piece.slice());
      state.taken += piece.length;
      if (state.taken >= length) controller.close();
    },
  }, { highWaterMark: 0 });
  return { body, state };
}

for (const [name, app] of Object.entries(APPS)) {
  eachEngine(`${name}: limits, streams, events, clones, proxies, cookies, ranges and uploads`, async (engine) => {
    await using limited = start(app, { engine, maxRequestBodySize: LIMIT });
    await using served = start(app, { engine });
    await using upstream = start(async (request) => {
      const text = `${request.method} ${request.headers.get("x-a")} ${await request.text()}`;
      return new Response(text, { status: 201, headers: { "x-upstream": "yes" } });
    }, { engine });

    // A limit of the server, or the framework's own.
    const post = (url: string, length: number) => fetch(url, { method: "POST", body: "x".repeat(length) });
    for (const { url } of name === "Hono" ? [limited, served] : [limited]) {
      const [fits, tooLong] = await Promise.all([post(`${url}/limited`, LIMIT), post(`${url}/limited`, LIMIT + 1)]);
      assertEquals([fits.status, (await fits.text()).length, tooLong.status], [200, LIMIT, 413]);
      await tooLong.body?.cancel();
    }

    // A stream, part by part.
    const reader = (await fetch(`${served.url}/stream`)).body!.pipeThrough(new TextDecoderStream()).getReader();
    const parts: string[] = [];
    for (let part; !(part = await within(20_000, reader.read())).done;) parts.push(part.value);
    assertEquals([parts.join(""), parts.length > 1], ["onetwothree", true]);

    // Events, as a browser would get them.
    const events = await fetch(`${served.url}/events`);
    assertMatch(events.headers.get("content-type")!, /^text\/event-stream/);
    assertEquals((await events.text()).match(/^data: .*$/gm), ["data: event 0", "data: event 1", "data: event 2"]);

    const cloned = await fetch(`${served.url}/clone`, { method: "POST", body: "hello" });
    assertEquals(await cloned.text(), "hello hello");

    const proxied = await fetch(`${served.url}/proxy?upstream=${encodeURIComponent(upstream.url)}`, {
      method: "POST",
      body: "hello",
      headers: { "x-a": "b" },
    });
    assertEquals([proxied.status, proxied.headers.get("x-upstream"), await proxied.text()], [
      201,
      "yes",
      "POST b hello",
    ]);

    const cookies = await fetch(`${served.url}/cookies`, { headers: { cookie: "a=b; visits=4" } });
    assertEquals(await cookies.text(), "5");
    const set = cookies.headers.getSetCookie().map((cookie) => cookie.split(";")[0]);
    assertEquals(set.sort(), ["theme=dark", "visits=5"]);

    using client = await RawClient.connect(served.port);
    const range = await client.get("/file", "Range: bytes=2-4");
    assertEquals([range.status, range.body], [206, "234"]);
    assertMatch(range.head, /^content-range: bytes 2-4\/10\r$/im);
    assertEquals((await client.get("/file")).body, "0123456789");

    // An upload waits while nothing is read, and arrives whole.
    const { body, state } = bodyOf(UPLOAD);
    const uploading = fetch(`${served.url}/upload`, { method: "POST", body });
    await new Promise((resolve) => setTimeout(resolve, PAUSE * 0.8));
    assert(state.taken < BUFFERED, `${state.taken} bytes were taken before any was read`);
    assertEquals(await (await within(60_000, uploading)).text(), `${UPLOAD}`);
  });
}
