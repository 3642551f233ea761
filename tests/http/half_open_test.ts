// Clients that end their side after a request and wait for the response, as `nc -N` does.
import { assert, assertEquals, assertMatch } from "@std/assert";
import { CERTIFICATE } from "../../examples/certificate.ts";
import { RawClient } from "../kit/http_client.ts";
import { start } from "../kit/http_server.ts";
import { until, within } from "../kit/process.ts";
import { isWine } from "../kit/wine.ts";

// Wine loses what the system had no room for when the client had ended its side; Deno's own sockets lose it there too.
const SLOWLY = { ignore: isWine() };
const LENGTH = (isWine() ? 1 : 8) * 1024 ** 2;
const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const GET = (path: string) => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`;

/** Sends all at once, ends its side, and reads to the end. */
async function ask(port: number, text: string, secure: boolean): Promise<string> {
  const plain = await Deno.connect({ port });
  using conn = secure ? await Deno.startTls(plain, { hostname: "localhost", caCerts: [CERTIFICATE.cert] }) : plain;
  await conn.write(new TextEncoder().encode(text));
  await conn.closeWrite();
  return await within(20_000, new Response(conn.readable).text());
}

for (const secure of [false, true]) {
  Deno.test(`${secure ? "TLS" : "TCP"}: a client that ends its side has the responses to all it has sent`, async () => {
    const errors: unknown[] = [];
    await using served = start(async (request) => {
      switch (new URL(request.url).pathname) {
        case "/slow":
          await sleep(300);
          return new Response("slow");
        case "/long":
          return new Response("x".repeat(LENGTH));
        case "/bytes":
          return new Response(new Uint8Array(LENGTH).fill(65));
        case "/stream":
          return new Response(ReadableStream.from((async function* () {
            for (let count = 0; count < 3; count++) {
              await sleep(100);
              yield new TextEncoder().encode(`${count}`);
            }
          })()));
        default:
          return new Response(await request.text());
      }
    }, { ...secure ? { tls: CERTIFICATE } : {}, onError: (error) => void errors.push(error) });
    const { port } = served;
    assertMatch(await ask(port, GET("/slow"), secure), /\r\n\r\nslow$/);
    assertMatch(
      await ask(port, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", secure),
      /\r\n\r\nhello$/,
    );
    for (const path of ["/long", "/bytes"]) {
      const [head, body] = (await ask(port, GET(path), secure)).split("\r\n\r\n");
      assertMatch(head!, /^HTTP\/1.1 200 /);
      assertEquals(body!.length, LENGTH, path);
    }
    assertMatch(await ask(port, GET("/stream"), secure), /1\r\n0\r\n1\r\n1\r\n1\r\n2\r\n0\r\n\r\n$/);
    const two = await ask(port, GET("/slow") + GET("/stream") + GET("/slow"), secure);
    assertEquals(two.split("HTTP/1.1 200 ").length - 1, 3);
    assert(two.endsWith("slow"), "the last is there");
    await until(() => served.server.connectionCount === 0, "the connections are closed");
    assertEquals(errors, []);
  });

  Deno.test(`${secure ? "TLS" : "TCP"}: a body that ends too early fails, which is no error of the server's`, async () => {
    const errors: unknown[] = [];
    const failed: unknown[] = [];
    await using served = start(async (request) => {
      try {
        return new Response(await request.text());
      } catch (error) {
        failed.push(error);
        throw error;
      }
    }, { ...secure ? { tls: CERTIFICATE } : {}, onError: (error) => void errors.push(error) });
    for (const length of ["Content-Length: 50", "Transfer-Encoding: chunked"]) {
      await ask(served.port, `POST / HTTP/1.1\r\nHost: a\r\n${length}\r\n\r\n5\r\nhe`, secure);
    }
    await until(() => served.server.connectionCount === 0, "the connections are closed");
    assertEquals([failed.length, errors.length], [2, 0]);
  });
}

Deno.test("the signal says that the client may have gone; a connection that is sent nothing then is closed", async () => {
  const aborted = Promise.withResolvers<void>();
  const completed = Promise.withResolvers<unknown>();
  const cancelled = Promise.withResolvers<void>();
  await using served = start((request, info) => {
    if (request.url.endsWith("/events")) {
      const start = (controller: ReadableStreamDefaultController) =>
        controller.enqueue(new TextEncoder().encode("first"));
      return new Response(new ReadableStream({ start, cancel: () => cancelled.resolve() }));
    }
    request.signal.addEventListener("abort", () => aborted.resolve());
    info.completed.catch(completed.resolve);
    return new Promise<Response>(() => {});
  }, { keepAliveTimeout: 300 });
  const clients = [await RawClient.connect(served.port), await RawClient.connect(served.port)];
  await clients[0]!.write(GET("/"));
  await clients[1]!.write(GET("/events"));
  await clients[1]!.conn.read(new Uint8Array(1_000));
  for (const client of clients) client[Symbol.dispose]();
  await within(5_000, aborted.promise);
  assert(await within(5_000, completed.promise) instanceof Deno.errors.ConnectionAborted);
  await within(5_000, cancelled.promise);
  await until(() => served.server.connectionCount === 0, "both are gone");
});

Deno.test("a client that has ended its side, and reads slowly, gets all of it", SLOWLY, async () => {
  const bodies: Record<string, () => BodyInit> = {
    "/bytes": () => new Uint8Array(LENGTH),
    "/text": () => "x".repeat(LENGTH),
    "/stream": () => new Response(new Uint8Array(LENGTH)).body!,
  };
  await using served = start((request) => new Response(bodies[new URL(request.url).pathname]!()), {
    keepAliveTimeout: 100,
  });
  await Promise.all(
    Object.keys(bodies).map(async (path) => {
      using client = await RawClient.connect(served.port);
      await client.write(GET(path));
      await client.conn.closeWrite();
      let read = 0;
      const buffer = new Uint8Array(65_536);
      for (let count; (count = await within(20_000, client.conn.read(buffer))) !== null; read += count) await sleep(10);
      assert(read > LENGTH, `${path}: ${read} bytes of ${LENGTH} came`);
    }),
  );
});
