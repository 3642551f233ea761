// What becomes of a connection whose request is answered before all of its body has come.
import { assert, assertEquals, assertMatch } from "@std/assert";
import { CERTIFICATE } from "../../examples/certificate.ts";
import { canAdoptResource } from "../../sockets/conn_io.ts";
import { RawClient } from "../kit/http_client.ts";
import { eachEngine, start } from "../kit/http_server.ts";
import { until, within } from "../kit/process.ts";

const ENGINES = ["node:http", "Deno.serve"] as const;
const MEBIBYTE = new Uint8Array(1024 ** 2).fill(65);

function stream(): ReadableStream<Uint8Array<ArrayBuffer>> {
  return ReadableStream.from([new TextEncoder().encode("refused")]);
}

eachEngine("a client that sends all of a long body before it looks has its response", async (engine) => {
  await using served = start(({ url }) =>
    new Response(url.endsWith("/text") ? "refused" : stream(), {
      status: 413,
      headers: url.endsWith("/length") ? { "content-length": "7" } : {},
    })
  );
  for (const path of ["/text", "/stream", "/length"]) {
    for (const chunked of [false, true]) {
      using client = await RawClient.connect(served.port);
      const length = chunked ? "Transfer-Encoding: chunked" : `Content-Length: ${8 * MEBIBYTE.length}`;
      await client.send(`POST ${path} HTTP/1.1`, "Host: a", length, "");
      for (let count = 0; count < 8; count++) {
        if (chunked) await client.send(MEBIBYTE.length.toString(16));
        await client.write(MEBIBYTE);
        if (chunked) await client.send("");
      }
      if (chunked) await client.send("0", "");
      const { status, head, body } = await client.response();
      assertEquals([status, body], [413, "refused"]);
      if (engine === "Deno.serve") continue;
      if (path === "/text") assertMatch(head, /^connection: close\r$/im);
      assertEquals(await client.rest(), "");
    }
  }
});

eachEngine("a connection goes on after a short body that nobody reads, whenever it comes", async (engine) => {
  await using served = start(() => new Response("unread"));
  using client = await RawClient.connect(served.port);
  for (const early of ["", "be", "begun"]) {
    await client.write(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n${early}`);
    const { head, body } = await client.response();
    assertEquals(body, "unread");
    if (engine === "node:http") assertMatch(head, /^connection: keep-alive\r$/im);
    await client.write("begun".slice(early.length));
  }
  assertEquals((await client.get("/")).body, "unread");
});

Deno.test("node:http: a long body that is read after the answer is read to its end", async () => {
  const read = Promise.withResolvers<number>();
  await using served = start((request) => {
    (async () => {
      let length = 0;
      for await (const bytes of request.body!) {
        length += bytes.length;
        if (length < 1_000_000) await new Promise((resolve) => setTimeout(resolve, 5));
      }
      return length;
    })().then(read.resolve, read.reject);
    return new Response("accepted", { status: 202 });
  });
  using client = await RawClient.connect(served.port);
  await client.send("POST / HTTP/1.1", "Host: a", `Content-Length: ${4 * MEBIBYTE.length}`, "");
  assertEquals((await client.response()).status, 202);
  for (let count = 0; count < 4; count++) await client.write(MEBIBYTE);
  assertEquals(await within(20_000, read.promise), 4 * MEBIBYTE.length);
  assertEquals(await client.rest(), "");
});

eachEngine("the rest of a body does not hold its connection when the program has left it", async () => {
  await using served = start(async (request) => {
    const reader = request.body?.getReader();
    await reader?.read();
    reader?.releaseLock();
    return new Response("answered");
  }, { keepAliveTimeout: 400 });
  const rest = "x".repeat(500_000);
  const chunked = ["Transfer-Encoding: chunked", "", (500_005).toString(16)];
  for (const headers of [["Content-Length: 500005", ""], chunked]) {
    const isChunked = headers === chunked;
    for (const comes of [true, false]) {
      using client = await RawClient.connect(served.port);
      await client.send("POST / HTTP/1.1", "Host: a", ...headers);
      await client.write(`hello${comes ? `${rest}${isChunked ? "\r\n0\r\n\r\n" : ""}` : ""}`);
      assertEquals((await client.response()).body, "answered", `${headers[0]}, ${comes}`);
      // It goes on, or ends: at the latest when it has been idle for too long.
      assertEquals(await within(5_000, client.rest()), "", `${headers[0]}, ${comes}`);
    }
  }
  await until(() => served.server.connectionCount === 0, "no connection is left");
});

Deno.test("node:http: a client that never stops sending is cut off", async () => {
  await using served = start(() => new Response("refused", { status: 413 }));
  using client = await RawClient.connect(served.port);
  await client.send("POST / HTTP/1.1", "Host: a", `Content-Length: ${1_000 * MEBIBYTE.length}`, "");
  assertEquals((await client.response()).status, 413);
  let sent = 0;
  try {
    while (sent < 1_000) {
      await client.write(MEBIBYTE);
      sent++;
    }
  } catch {
    // It is cut off.
  }
  assert(sent >= 60 && sent < 200, `${sent} MiB`);
});

Deno.test("node:http: a handler cannot keep a connection on which nobody knows what comes next", async () => {
  await using served = start(() => new Response("no", { status: 413, headers: { connection: "keep-alive" } }));
  for (const headers of [["Content-Length: 5", "Expect: 100-continue"], ["Content-Length: 5000000"]]) {
    using client = await RawClient.connect(served.port);
    await client.send("POST / HTTP/1.1", "Host: a", ...headers, "");
    const { head } = await client.response();
    assertEquals(head.match(/^connection: .*$/gim)?.map((line) => line.trim().toLowerCase()), ["connection: close"]);
    assertEquals(await client.rest(), "");
  }
});

/** What handlers do with a body of which they want no more; each answers with how it leaves it. */
const LEAVERS: Record<string, (body: ReadableStream<Uint8Array>) => Promise<void>> = {
  "cancels it unread": (body) => body.cancel(),
  "cancels it": async (body) => {
    const reader = body.getReader();
    await reader.read();
    await reader.cancel();
  },
  "leaves the loop": async (body) => {
    for await (const _ of body) return;
  },
  "lets go of it": async (body) => {
    const reader = body.getReader();
    await reader.read();
    reader.releaseLock();
  },
};

for (const [name, leave] of Object.entries(LEAVERS)) {
  for (const engine of ENGINES) {
    Deno.test({
      name: `${engine}: the connection goes on at once, or is closed, when a handler ${name}`,
      ignore: engine === "Deno.serve" && !canAdoptResource(),
      async fn() {
        await using served = start(async ({ body, method }) => {
          if (method === "GET") return new Response("next");
          await leave(body!);
          return new Response("left");
        }, { engine });
        // Short ones, longer ones than Node takes in unread, and ones that come later than the answer.
        for (const length of [1_000, 60_000, 200_000, 3_000_000]) {
          for (const early of [1, length / 2, length]) {
            using client = await RawClient.connect(served.port);
            await client.send("POST / HTTP/1.1", "Host: a", `Content-Length: ${length}`, "");
            await client.write(new Uint8Array(early).fill(65));
            const { head, body } = await client.response();
            assertEquals(body, "left", `${length} bytes, ${early} of them early`);
            try {
              await client.write(new Uint8Array(length - early).fill(65));
            } catch {
              // Deno's own may have ended the connection by now.
              assertMatch(head, /^connection: close\r$/im);
            }
            if (/^connection: close\r$/im.test(head)) continue;
            const begun = performance.now();
            assertEquals((await client.get("/")).body, "next", `${length} bytes, ${early} of them early`);
            assert(performance.now() - begun < 10_000, "it is at once");
          }
        }
      },
    });
  }
}

Deno.test("node:http: a body whose reader is left alone holds up the next request for no longer than it may take", async () => {
  const failed = Promise.withResolvers<unknown>();
  await using served = start(async ({ body, method }) => {
    if (method === "GET") return new Response("next");
    const reader = body!.getReader();
    await reader.read();
    setTimeout(async () => {
      let length = 0;
      try {
        for (let result; !(result = await reader.read()).done;) length += result.value.length;
        failed.resolve(`${length} bytes came`);
      } catch (error) {
        failed.resolve(error);
      }
    }, 1_000);
    return new Response("left");
  });
  using client = await RawClient.connect(served.port);
  // What is short is kept for the reader, and the connection goes on.
  await client.send("POST / HTTP/1.1", "Host: a", "Content-Length: 6000", "");
  await client.write(new Uint8Array(3_000));
  assertEquals((await client.response()).body, "left");
  await client.write(new Uint8Array(3_000));
  assertEquals((await client.get("/")).body, "next");
  assertMatch(String(await within(20_000, failed.promise)), /^\d+ bytes came$/);
});

Deno.test(
  "node:http: a client that sends before it reads has its answer, over TLS too, whatever is read of the body",
  async () => {
    for (const tls of [false, true]) {
      await using served = start(async ({ body, url }) => {
        if (!url.endsWith("/unread")) { for await (const _ of body!) break; }
        return new Response("too much", { status: 413 });
      }, tls ? { tls: CERTIFICATE } : {});
      for (const path of ["/", "/unread"]) {
        const plain = await Deno.connect({ port: served.port });
        using conn = tls ? await Deno.startTls(plain, { hostname: "localhost", caCerts: [CERTIFICATE.cert] }) : plain;
        const head = `POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Length: ${5 * MEBIBYTE.length}\r\n\r\n`;
        const bytes = new Uint8Array(head.length + 5 * MEBIBYTE.length);
        bytes.set(new TextEncoder().encode(head));
        for (let at = 0; at < bytes.length;) at += await within(20_000, conn.write(bytes.subarray(at)));
        const buffer = new Uint8Array(10_000);
        const count = await within(20_000, conn.read(buffer));
        assertMatch(new TextDecoder().decode(buffer.subarray(0, count!)), /^HTTP\/1\.1 413 /);
      }
    }
  },
);

Deno.test("node:http: a body that nobody reads for now does not come, over TLS either", async () => {
  const go = Promise.withResolvers<void>();
  await using served = start(async ({ body }) => {
    const reader = body!.getReader();
    let length = (await reader.read()).value!.length;
    await go.promise;
    for (let result; !(result = await reader.read()).done;) length += result.value.length;
    return new Response(`${length}`);
  }, { tls: CERTIFICATE });
  const plain = await Deno.connect({ port: served.port });
  using conn = await Deno.startTls(plain, { hostname: "localhost", caCerts: [CERTIFICATE.cert] });
  const total = 64 * MEBIBYTE.length;
  await conn.write(new TextEncoder().encode(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ${total}\r\n\r\n`));
  let sent = 0;
  const sending = (async () => {
    while (sent < total) sent += await conn.write(MEBIBYTE.subarray(0, Math.min(MEBIBYTE.length, total - sent)));
  })();
  for (let last = -1; last !== sent;) {
    last = sent;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  assert(sent < 32 * MEBIBYTE.length, `${sent} bytes were taken`);
  go.resolve();
  await within(20_000, sending);
  const buffer = new Uint8Array(10_000);
  const count = await within(20_000, conn.read(buffer));
  assertMatch(new TextDecoder().decode(buffer.subarray(0, count!)), new RegExp(`\r\n\r\n${total}$`));
});

for (const engine of ENGINES) {
  Deno.test({
    name: `${engine}: a body that is read after its request was answered comes, and so does the answer`,
    ignore: engine === "Deno.serve" && !canAdoptResource(),
    async fn() {
      const errors: unknown[] = [];
      for (
        const answer of [() => new Response("accepted"), () => new Response(stream()), () => Response.json("accepted")]
      ) {
        // What Deno makes of a body for a clone cannot be seen to be read.
        for (const way of ["loop", "text", "tee", ...engine === "node:http" ? ["clone"] : []]) {
          const read = Promise.withResolvers<number>();
          await using served = start(async (request) => {
            const reading = async () => {
              if (way === "text") return (await request.text()).length;
              const { body } = way === "clone" ? request.clone() : request;
              let length = 0;
              for await (const bytes of way === "tee" ? body!.tee()[0] : body!) length += bytes.length;
              return length;
            };
            reading().then(read.resolve, read.reject);
            await Promise.resolve();
            return answer();
          }, { engine, onError: (error) => void errors.push(error) });
          using client = await RawClient.connect(served.port);
          await client.send("POST / HTTP/1.1", "Host: a", `Content-Length: ${2 * MEBIBYTE.length}`, "");
          // It is answered before any of the body has come.
          assertMatch(await client.head(), /^HTTP\/1\.1 200 /);
          for (let count = 0; count < 2; count++) await client.write(MEBIBYTE);
          assertEquals(await within(20_000, read.promise), 2 * MEBIBYTE.length, way);
          assertMatch(await client.rest(), /accepted|refused/);
        }
      }
      assertEquals(errors, []);
    },
  });
}
