// How serveHttp frames responses, whatever their headers say, and what becomes of those that cannot be sent.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import type { HttpHandler } from "@winsock/handoff/http";
import { HANDSHAKE, RawClient } from "../kit/http_client.ts";
import { eachEngine, start } from "../kit/http_server.ts";
import { until, within } from "../kit/process.ts";

/** Answers by path, and keeps what onError is told; requests to `/next` show that a connection is in step. */
function answering(responses: Record<string, () => Response>) {
  const errors: string[] = [];
  const handler: HttpHandler = (request) => responses[new URL(request.url).pathname]?.() ?? new Response("in step");
  return { errors, ...start(handler, { onError: (error) => void errors.push(String(error)) }) };
}

function stream(...texts: string[]): ReadableStream<Uint8Array<ArrayBuffer>> {
  return ReadableStream.from(texts.map((text) => new TextEncoder().encode(text)));
}

/** The same when the headers are on their way. */
function late(...texts: string[]): ReadableStream<Uint8Array<ArrayBuffer>> {
  return ReadableStream.from((async function* () {
    await new Promise((resolve) => setTimeout(resolve, 100));
    for (const text of texts) yield new TextEncoder().encode(text);
  })());
}

const lengthOf = (head: string) => /^content-length: (\d+)\r$/im.exec(head)?.[1];

Deno.test("node:http: a ready body is sent with its own length, whatever the handler's content-length is", async () => {
  const long = "ä".repeat(10_000);
  const bodies: Record<string, [BodyInit | null, number]> = {
    "/text": ["hello", 5],
    "/utf-8": ["hellö", 6],
    "/long": [long, 20_000],
    "/bytes": [new Uint8Array(7), 7],
    "/empty": ["", 0],
    "/null": [null, 0],
  };
  for (const wrong of ["3", "100000", "no number"]) {
    const headers = { "content-length": wrong, "transfer-encoding": "chunked" };
    const responses = Object.entries(bodies).map(([path, [body]]) => [path, () => new Response(body, { headers })]);
    await using served = answering(Object.fromEntries(responses));
    using client = await RawClient.connect(served.port);
    for (const [path, [, length]] of Object.entries(bodies)) {
      const { head, body } = await client.get(path);
      assertEquals([lengthOf(head), body.length], [String(length), length], path);
      assertEquals(head.match(/^content-length|^transfer-encoding/gim)?.length, 1, head);
    }
    assertEquals((await client.get("/next")).body, "in step");
    assertEquals(served.errors, []);
  }
});

Deno.test("node:http: responses without a body keep the content-length that is right for them", async () => {
  const headers = { "content-length": "3" };
  await using served = answering({
    "/null": () => new Response(null, { headers }),
    "/text": () => new Response("hello", { headers }),
    "/204": () => new Response(null, { status: 204, headers }),
    "/304": () => new Response(null, { status: 304, headers }),
  });
  using client = await RawClient.connect(served.port);
  assertEquals(lengthOf((await client.get("/204")).head), undefined);
  assertEquals(lengthOf((await client.get("/304")).head), "3");
  assertEquals((await client.get("/next")).body, "in step");
  for (const [path, length] of [["/null", "3"], ["/text", "5"], ["/304", "3"]] as const) {
    using asking = await RawClient.connect(served.port);
    await asking.send(`HEAD ${path} HTTP/1.1`, "Host: a", "Connection: close", "");
    const head = await asking.rest();
    assertEquals(lengthOf(head), length, path);
    assert(head.endsWith("\r\n\r\n"), head);
  }
  assertEquals(served.errors, []);
});

Deno.test("node:http: a stream is as long as its content-length says, or its connection ends", async () => {
  const headers = { "content-length": "10" };
  await using served = answering({
    "/right": () => new Response(stream("01234", "56789"), { headers }),
    "/short": () => new Response(stream("01234"), { headers }),
    "/none": () => new Response(stream(), { headers }),
    "/long": () => new Response(stream("01234", "567890", "never"), { headers }),
    "/late-short": () => new Response(late("01234"), { headers }),
    "/late-none": () => new Response(late(), { headers }),
    "/late-long": () => new Response(late("01234", "567890", "never"), { headers }),
    "/identity": () => new Response(stream("01234"), { headers: { "transfer-encoding": "identity" } }),
    "/no-number": () => new Response(stream("01234"), { headers: { "content-length": "five" } }),
  });
  using client = await RawClient.connect(served.port);
  assertEquals((await client.get("/right")).body, "0123456789");
  assertEquals((await client.get("/identity")).body, "01234");
  assertEquals((await client.get("/no-number")).body, "01234");
  assertEquals((await client.get("/next")).body, "in step");
  assertEquals(served.errors, []);

  for (const path of ["/short", "/none", "/long"]) {
    served.errors.length = 0;
    assertEquals((await client.get(path)).status, 500, path);
    assertEquals((await client.get("/next")).body, "in step");
    assertEquals(served.errors.length, 1);
    assertMatch(served.errors[0]!, /content-length of 10/i);
  }

  for (const path of ["/late-short", "/late-none", "/late-long"]) {
    served.errors.length = 0;
    using broken = await RawClient.connect(served.port);
    await broken.send(`GET ${path} HTTP/1.1`, "Host: a", "", "GET /next HTTP/1.1", "Host: a", "");
    const [head, body] = (await broken.rest()).split("\r\n\r\n");
    assertMatch(head!, /^HTTP\/1.1 200 /);
    assert((body ?? "").length < 10, `${path}: ${body}`);
    await until(() => served.errors.length > 0, "it is told");
    assertEquals(served.errors.length, 1);
    assertMatch(served.errors[0]!, /content-length of 10/i);
  }

  using asking = await RawClient.connect(served.port);
  await asking.send("HEAD /long HTTP/1.1", "Host: a", "Connection: close", "");
  assertEquals(lengthOf(await asking.rest()), "10");
});

eachEngine("what is sent instead of a response that cannot be has nothing of it", async () => {
  const leaky = { "set-cookie": "session=secret", etag: "x", "content-length": "1" };
  const odd = { status: 600, statusText: "Odd", headers: new Headers(leaky), body: null, bodyUsed: false };
  await using served = answering({
    "/error": () => Response.error(),
    "/value": () => new Response("x", { headers: { ...leaky, "x-control": "a\x01b" } }),
    "/streamed-value": () => new Response(stream("x"), { headers: { ...leaky, "x-control": "a\x01b" } }),
    "/status": () => ({ ...odd, status: 1_000 }) as unknown as Response,
    "/status-text": () => ({ ...odd, statusText: "a\r\nb: c" }) as unknown as Response,
    "/used": () => {
      const used = new Response("x", { headers: leaky });
      used.text();
      return used;
    },
  });
  using client = await RawClient.connect(served.port);
  for (const path of ["/error", "/value", "/streamed-value", "/status", "/status-text", "/used"]) {
    const { status, head, body } = await client.get(path);
    assertEquals([status, body], [500, "Internal Server Error"], path);
    assertEquals(lengthOf(head), "21", path);
    assertMatch(head, /^HTTP\/1\.1 500 Internal Server Error\r\n/, path);
    assert(!/secret|etag|x-control/i.test(head), `${path}: ${head}`);
    assertEquals((await client.get("/next")).body, "in step", path);
  }
  assertEquals(served.errors.length, 6, served.errors.join("\n"));
  assertStringIncludes(served.errors[0]!, "Response.error()");
});

eachEngine("a substitute that cannot be sent either is answered 500, and the connection goes on", async () => {
  await using served = start((request) => request.url.endsWith("/next") ? new Response("in step") : Response.error(), {
    onError: () => Response.error(),
  });
  using client = await RawClient.connect(served.port);
  assertEquals((await client.get("/")).status, 500);
  assertEquals((await client.get("/next")).body, "in step");
});

Deno.test("node:http: what is wrong with a stream before any of it is sent is answered as onError likes, and once", async () => {
  let count = 0;
  const streams: Record<string, () => BodyInit> = {
    "fails at once": () => new ReadableStream({ start: (controller) => controller.error(new Error("no")) }),
    "fails when it is pulled": () => new ReadableStream({ pull: () => Promise.reject(new Error("no")) }),
    "gives text": () => ReadableStream.from(["text"]) as unknown as ReadableStream<Uint8Array<ArrayBuffer>>,
    "is too short": () => stream("short"),
    "is too long": () => stream("much too long"),
    "is locked": () => {
      const locked = stream("short");
      locked.getReader();
      return locked;
    },
  };
  const errors: unknown[] = [];
  await using served = start((request) => {
    const name = decodeURIComponent(new URL(request.url).search.slice(1));
    if (name === "") return new Response("in step");
    count++;
    const headers: HeadersInit = name.startsWith("is too") ? { "content-length": "10" } : {};
    return new Response(streams[name]!(), { headers });
  }, {
    onError: (error) => {
      errors.push(error);
      return new Response("sorry", { status: 503 });
    },
  });
  using client = await RawClient.connect(served.port);
  for (const name of Object.keys(streams)) {
    [count, errors.length] = [0, 0];
    const { status, body } = await client.get(`/?${encodeURIComponent(name)}`);
    assertEquals([status, body, count, errors.length], [503, "sorry", 1, 1], name);
    assertEquals((await client.get("/")).body, "in step", name);
  }
});

eachEngine("the headers of a stream leave before its first part", async (engine) => {
  const go = Promise.withResolvers<void>();
  await using served = start(() => {
    const body = new ReadableStream({
      async pull(controller) {
        await go.promise;
        controller.enqueue(new TextEncoder().encode("first"));
        controller.close();
      },
    });
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  }, { engine });
  const response = await within(5_000, fetch(served.url));
  assertEquals([response.status, response.headers.get("content-type")], [200, "text/event-stream"]);
  go.resolve();
  assertEquals(await response.text(), "first");
});

Deno.test("node:http: streams have a reason phrase, as texts do", async () => {
  await using served = answering({
    "/text": () => new Response("x"),
    "/stream": () => new Response(stream("x")),
    "/created": () => new Response(stream("x"), { status: 201 }),
    "/said": () => new Response(stream("x"), { statusText: "As told" }),
  });
  using client = await RawClient.connect(served.port);
  const phrase = async (path: string) => (await client.get(path)).head.split("\r\n")[0];
  assertEquals(await phrase("/text"), "HTTP/1.1 200 OK");
  assertEquals(await phrase("/stream"), "HTTP/1.1 200 OK");
  assertEquals(await phrase("/created"), "HTTP/1.1 201 Created");
  assertEquals(await phrase("/said"), "HTTP/1.1 200 As told");
});

Deno.test("node:http: a WebSocket of Deno.upgradeWebSocket is an error that says what to use", async () => {
  const errors: string[] = [];
  await using served = start((request) => Deno.upgradeWebSocket(request).response, {
    onError: (error) => void errors.push(String(error)),
  });
  const client = new WebSocket(`ws://127.0.0.1:${served.port}`);
  await within(5_000, new Promise((resolve) => client.onerror = resolve));
  assertEquals(errors.length, 1);
  assertStringIncludes(errors[0]!, "info.upgradeWebSocket");
  using raw = await RawClient.connect(served.port);
  const { status, head } = await raw.get("/", ...HANDSHAKE);
  assertEquals(status, 500);
  assert(!/sec-websocket|^upgrade:/im.test(head), head);
});
