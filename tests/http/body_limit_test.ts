// How long the body of a request may be.
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { type HttpHandler, serveHttp, type ServeHttpOptions } from "@winsock/handoff/http";
import { connect as connectHttp2 } from "node:http2";
import { CERTIFICATE } from "../../examples/certificate.ts";
import { canAdoptResource } from "../../sockets/conn_io.ts";
import { RawClient } from "../kit/http_client.ts";
import { eachEngine, start } from "../kit/http_server.ts";
import { until, within } from "../kit/process.ts";

const LIMIT = 100_000;
const MEBIBYTE = 1024 ** 2;

/** A body in chunks of 10 000 bytes. */
function chunked(length: number): ReadableStream<Uint8Array<ArrayBuffer>> {
  let left = length;
  return new ReadableStream({
    pull(controller) {
      const chunk = new Uint8Array(Math.min(left, 10_000)).fill(65);
      left -= chunk.length;
      if (chunk.length > 0) controller.enqueue(chunk);
      if (left === 0) controller.close();
    },
  });
}

/** What is answered to a body, with its length told or not. */
async function post(url: string, length: number, told: boolean): Promise<[status: number, text: string]> {
  const body = told ? new Uint8Array(length).fill(65) : chunked(length);
  const response = await within(20_000, fetch(url, { method: "POST", body }));
  return [response.status, await response.text()];
}

const READERS: Record<string, HttpHandler> = {
  "/text": async (request) => new Response(`${(await request.text()).length}`),
  "/bytes": async (request) => new Response(`${(await request.bytes()).length}`),
  "/clone": async (request) => new Response(`${(await request.clone().text()).length}`),
  "/request": async (request) => new Response(`${(await new Request(request).text()).length}`),
  "/loop": async ({ body }) => {
    let length = 0;
    for await (const bytes of body!) length += bytes.length;
    return new Response(`${length}`);
  },
  "/byob": async ({ body }) => {
    let length = 0;
    const reader = body!.getReader();
    for (let result; !(result = await reader.read()).done;) length += result.value.length;
    return new Response(`${length}`);
  },
};

eachEngine("a body that is longer than is allowed is answered 413, and onError is not told", async (engine) => {
  const errors: unknown[] = [];
  let asked = 0;
  await using served = start((request, info) => {
    asked++;
    return READERS[new URL(request.url).pathname]!(request, info);
  }, { engine, maxRequestBodySize: LIMIT, onError: (error) => void errors.push(error) });
  for (const path of Object.keys(READERS)) {
    const url = served.url + path;
    for (const told of [true, false]) {
      asked = 0;
      assertEquals(await post(url, LIMIT, told), [200, `${LIMIT}`], `${path}, ${told ? "told" : "in chunks"}`);
      assertEquals(asked, 1);
      const [status] = await post(url, LIMIT + 1, told);
      assertEquals([status, asked], [413, told ? 1 : 2], `${path}, ${told ? "told" : "in chunks"}`);
    }
  }
  assertEquals(errors, []);
});

eachEngine("a handler that catches it answers what it likes", async (engine) => {
  await using served = start(async (request) => {
    try {
      return new Response(await request.text());
    } catch (error) {
      return new Response(String(error), { status: 422 });
    }
  }, { engine, maxRequestBodySize: LIMIT });
  const [status, text] = await post(served.url, 2 * LIMIT, false);
  assertEquals(status, 422);
  assertMatch(text, /^RangeError: .* maxRequestBodySize of 100000 bytes$/);
});

eachEngine("a client that sends before it reads is told, and one that never ends is cut off", async (engine) => {
  const serve = (keepAliveTimeout: number) =>
    start(async (request) => new Response(await request.text()), {
      engine,
      maxRequestBodySize: LIMIT,
      keepAliveTimeout,
    });
  // It has that long to send what nobody reads.
  await using patient = serve(20_000);
  using long = await RawClient.connect(patient.port);
  await long.send("POST / HTTP/1.1", "Host: a", `Content-Length: ${5 * MEBIBYTE}`, "");
  await long.write(new Uint8Array(5 * MEBIBYTE));
  const { status, head } = await long.response();
  assertEquals(status, 413);
  if (engine === "node:http") assertMatch(head, /^connection: close\r$/im);
  else if (!/^connection: close\r$/im.test(head)) assertEquals((await long.get("/")).status, 200);

  await using served = serve(1_000);
  using endless = await RawClient.connect(served.port);
  await endless.send("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "");
  let sent = 0;
  try {
    for (; sent < 2_000; sent++) {
      await endless.send(MEBIBYTE.toString(16));
      await endless.write(new Uint8Array(MEBIBYTE));
      await endless.send("");
      if (engine === "Deno.serve") await new Promise((resolve) => setTimeout(resolve, 10));
    }
  } catch {
    // It is cut off.
  }
  assert(sent < 2_000, `${sent} MiB`);
  await until(() => served.server.connectionCount === 0, "it is gone");
});

eachEngine("a client that asks before it sends is answered 413 without having to send", async (engine) => {
  await using served = start(() => new Response(), { engine, maxRequestBodySize: LIMIT });
  using client = await RawClient.connect(served.port);
  await client.send("POST / HTTP/1.1", "Host: a", `Content-Length: ${LIMIT + 1}`, "Expect: 100-continue", "");
  let response = await client.response();
  // Deno's own tells everybody to go on.
  if (engine === "Deno.serve" && response.status === 100) response = await client.response();
  assertEquals(response.status, 413);
});

eachEngine("nothing may be sent, or anything; the limit is 128 MiB if none is given", async (engine) => {
  const serve = (options: ServeHttpOptions) =>
    start((request) => READERS["/loop"]!(request, undefined as never), { engine, ...options });
  {
    await using served = serve({ maxRequestBodySize: 0 });
    assertEquals(await post(served.url, 0, true), [200, "0"]);
    assertEquals((await post(served.url, 1, true))[0], 413);
    assertEquals((await post(served.url, 1, false))[0], 413);
  }
  {
    await using served = serve({ maxRequestBodySize: Infinity });
    assertEquals(await post(served.url, 3_000_000, false), [200, "3000000"]);
  }
  {
    await using served = serve({});
    using client = await RawClient.connect(served.port);
    await client.send("POST / HTTP/1.1", "Host: a", `Content-Length: ${128 * MEBIBYTE + 1}`, "");
    assertEquals((await client.response()).status, 413);
  }
});

Deno.test({
  name: "Deno.serve: by HTTP/2 too, whatever its headers say, and what is empty is read",
  ignore: !canAdoptResource(),
  async fn() {
    await using served = start(async (request) => new Response(`[${await request.text()}]`), {
      engine: "Deno.serve",
      maxRequestBodySize: 10,
    });
    const session = connectHttp2(served.url);
    const ask = async (body: string, headers: Record<string, string> = {}) => {
      const request = session.request({ ":method": "POST", ":path": "/", ...headers });
      const status = new Promise<number>((resolve) =>
        request.on("response", (head) => resolve(Number(head[":status"])))
      );
      request.end(body);
      let text = "";
      for await (const chunk of request.setEncoding("utf8")) text += chunk;
      return [await status, text];
    };
    assertEquals(await ask(""), [200, "[]"]);
    assertEquals(await ask("hello"), [200, "[hello]"]);
    for (const headers of [{}, { host: "a" }, { "x-length": "1" }]) {
      for (const length of [11, 200_000]) assertEquals((await ask("x".repeat(length), headers))[0], 413);
    }
    // Neither may these have a body of a length that is not told.
    for (const method of ["TRACE", "TRACK", "get"]) {
      for (const length of [11, 200_000]) {
        assertEquals((await ask("x".repeat(length), { ":method": method }))[0], 413, method);
      }
    }
    session.destroy();
    for (const head of ["POST / HTTP/1.0\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"]) {
      using client = await RawClient.connect(served.port);
      await client.write(head);
      assertEquals((await client.response()).body, "[]");
    }
    using client = await RawClient.connect(served.port);
    await client.send("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "", "0", "");
    assertEquals((await client.response()).body, "[]");
  },
});

eachEngine("a length that is sent twice, and a method in other letters, do not get past the limit", async (engine) => {
  await using served = start(async (request) => new Response(`[${(await request.text()).length}]`), {
    engine,
    maxRequestBodySize: 10,
  });
  const ask = async (method: string, ...lines: string[]) => {
    using client = await RawClient.connect(served.port);
    await client.send(`${method} / HTTP/1.1`, "Host: a", ...lines);
    const { status, body } = await within(20_000, client.response());
    return status === 200 ? body : status;
  };
  const [chunked, told] = [["Transfer-Encoding: chunked", "", "B", "x".repeat(11), "0", ""], "Content-Length: 11"];
  assertEquals(await ask("POST", told, told, "", "x".repeat(11)), engine === "node:http" ? 400 : 413);
  assertEquals(await ask("POST", "Content-Length: 11, 11", "", "x".repeat(11)), 400);
  for (const method of ["get", "Get", "head", "Head", "trace", "track"]) {
    const refused = engine === "node:http" ? 400 : 413;
    assertEquals(await ask(method, told, "", "x".repeat(11)), refused, method);
    assertEquals(await ask(method, ...chunked), refused, method);
  }
  if (engine === "node:http") return;
  // Deno has no body for this one.
  assertEquals(await ask("GET", told, "", "x".repeat(11)), "[0]");
  for (const method of ["TRACE", "TRACK"]) {
    assertEquals(await ask(method, told, "", "x".repeat(11)), 413, method);
    assertEquals(await ask(method, ...chunked), 413, method);
  }
  // What is within the limit is served.
  const five = "Content-Length: 5";
  assertEquals(await ask("POST", five, five, "", "xxxxx"), "[5]");
  assertEquals(await ask("get", five, "", "xxxxx"), "[5]");
  for (const method of ["get", "TRACE", "OPTIONS"]) assertEquals(await ask(method, ""), "[0]", method);
});

Deno.test("node:http: over TLS too", async () => {
  await using served = start(async (request) => new Response(await request.text()), {
    tls: CERTIFICATE,
    maxRequestBodySize: LIMIT,
  });
  const bodies = [
    `Content-Length: ${LIMIT + 1}\r\n\r\n${"x".repeat(LIMIT + 1)}`,
    `Transfer-Encoding: chunked\r\n\r\n${(LIMIT + 1).toString(16)}\r\n${"x".repeat(LIMIT + 1)}\r\n0\r\n\r\n`,
  ];
  for (const body of bodies) {
    const plain = await Deno.connect({ hostname: "127.0.0.1", port: served.port });
    using conn = await Deno.startTls(plain, { hostname: "localhost", caCerts: [CERTIFICATE.cert] });
    const bytes = new TextEncoder().encode(`POST / HTTP/1.1\r\nHost: a\r\n${body}`);
    for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
    const answer = new Uint8Array(1_000);
    const count = await within(20_000, conn.read(answer));
    assertMatch(new TextDecoder().decode(answer.subarray(0, count!)), /^HTTP\/1\.1 413 /);
  }
});

Deno.test("a limit that is none is refused", () => {
  for (const maxRequestBodySize of [-1, 1.5, NaN]) {
    const serve = () => serveHttp((async function* () {})(), () => new Response(), { maxRequestBodySize });
    assertThrows(serve, RangeError, "Invalid `maxRequestBodySize`: must be");
  }
});
