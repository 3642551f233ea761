// What becomes of a connection whose request is answered before all of its body has come.
import { assert, assertEquals, assertMatch } from "@std/assert";
import { RawClient } from "../kit/http_client.ts";
import { start } from "../kit/http_server.ts";
import { within } from "../kit/process.ts";

const MEBIBYTE = new Uint8Array(1024 ** 2).fill(65);

function stream(): ReadableStream<Uint8Array<ArrayBuffer>> {
  return ReadableStream.from([new TextEncoder().encode("refused")]);
}

Deno.test("a client that sends all of a long body before it looks has its response", async () => {
  await using served = start(({ url }) =>
    new Response(url.endsWith("/stream") ? stream() : "refused", { status: 413 })
  );
  for (const path of ["/text", "/stream"]) {
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
      if (path === "/text") assertMatch(head, /^connection: close\r$/im);
      assertEquals(await client.rest(), "");
    }
  }
});

Deno.test("a connection goes on after a short body that nobody reads, whenever it comes", async () => {
  await using served = start(() => new Response("unread"));
  using client = await RawClient.connect(served.port);
  for (const early of ["", "be", "begun"]) {
    await client.write(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n${early}`);
    const { head, body } = await client.response();
    assertEquals(body, "unread");
    assertMatch(head, /^connection: keep-alive\r$/im);
    await client.write("begun".slice(early.length));
  }
  assertEquals((await client.get("/")).body, "unread");
});

Deno.test("a long body that is read after the answer is read to its end", async () => {
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

Deno.test("a client that never stops sending is cut off", async () => {
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

Deno.test("a handler cannot keep a connection on which nobody knows what comes next", async () => {
  await using served = start(() => new Response("no", { status: 413, headers: { connection: "keep-alive" } }));
  for (const headers of [["Content-Length: 5", "Expect: 100-continue"], ["Content-Length: 5000000"]]) {
    using client = await RawClient.connect(served.port);
    await client.send("POST / HTTP/1.1", "Host: a", ...headers, "");
    const { head } = await client.response();
    assertEquals(head.match(/^connection: .*$/gim)?.map((line) => line.trim().toLowerCase()), ["connection: close"]);
    assertEquals(await client.rest(), "");
  }
});
