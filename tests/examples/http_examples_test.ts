// The HTTP examples run as they are, under the permissions they say, and answer real clients.
import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { concat } from "@std/bytes/concat";
import { connect, listen } from "@winsock/handoff";
import https from "node:https";
import { CERTIFICATE } from "../../examples/certificate.ts";
import { findClientHello, serverNameOf } from "../../examples/client_hello.ts";
import { clientHello } from "../kit/client_hello.ts";
import { RawClient } from "../kit/http_client.ts";
import { endChild, FFI_GRANT, lines, RUN, within } from "../kit/process.ts";
import { random } from "../kit/random.ts";

/** Starts an example that listens, and reads the port from its first line. */
async function startExample(script: string, ...more: string[]) {
  const url = new URL(`../../examples/${script}`, import.meta.url).href;
  const args = [...RUN, "--allow-run", FFI_GRANT, url, ...more];
  const child = new Deno.Command(Deno.execPath(), { args, stdin: "null", stdout: "piped" }).spawn();
  const nextLine = lines(child);
  const port = Number(/port (\d+)/.exec(await nextLine() ?? "")?.[1]);
  return { port, nextLine, [Symbol.asyncDispose]: () => endChild(child) };
}

function getSecurely(port: number, servername: string): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const options = { host: "127.0.0.1", port, servername, ca: CERTIFICATE.cert, agent: new https.Agent() };
  https.get(options, (response) => {
    let text = "";
    response.on("data", (chunk) => text += chunk).on("end", () => resolve(text));
  }).on("error", reject);
  return within(20_000, promise);
}

Deno.test("http_pool: two workers without net permission answer with Hono, in turn", async () => {
  await using pool = await startExample("http_pool.ts");
  const url = `http://127.0.0.1:${pool.port}`;
  const client = Deno.createHttpClient({ poolMaxIdlePerHost: 0 });
  const answers = new Set<string>();
  for (let count = 0; count < 4; count++) answers.add(await (await fetch(url, { client })).text());
  client.close();
  assertEquals(answers.size, 2, [...answers].join());
  const echoed = await fetch(`${url}/echo`, { method: "POST", body: "hello" });
  assertEquals(await echoed.text(), "hello");
});

for (
  const [framework, ...flags] of [["express", "--allow-env", "--allow-read"], [
    "fastify",
    "--allow-env",
    "--allow-read",
  ]]
) {
  Deno.test(`http_pool: two workers answer with ${framework}, each connection as often as it asks`, async () => {
    await using pool = await startExample("http_pool.ts", "0", `${framework}_worker.ts`, ...flags);
    const processes = new Set<string>();
    for (let count = 0; count < 2; count++) {
      using client = await RawClient.connect(pool.port);
      const { status, body } = await client.get("/");
      assertEquals(status, 200);
      processes.add(body);
      assertEquals(JSON.parse((await client.get("/hello/a%20b?c=d")).body), { hello: "a b", c: "d" });
      assertEquals((await client.get("/nowhere")).status, 404);
      const failed = await client.get("/error");
      assertEquals([failed.status, JSON.parse(failed.body)], [500, { error: "This is no good" }]);
      const text = '{"e":[1]}';
      await client.send("POST /echo HTTP/1.1", "Host: a", "Content-Type: application/json", "Content-Length: 9", "");
      await client.write(text);
      const echoed = await client.response();
      assertEquals([echoed.status, echoed.body], [201, text]);
      assertEquals((await client.get("/")).body, body, "the connection is the same worker's");
    }
    assertEquals(processes.size, 2);
  });
}

Deno.test("sni_router: each name is answered by its worker, which ends TLS; others are refused", async () => {
  await using router = await startExample("sni_router.ts");
  for (const name of ["one.test", "two.test", "one.test"]) {
    const answer = await getSecurely(router.port, name);
    const worker = /from (\S+), process (\d+)/.exec(answer);
    assertEquals(worker?.[1], name, answer);
    assertEquals(await router.nextLine(), `${name} goes to process ${worker?.[2]}`);
  }
  await assertRejects(() => getSecurely(router.port, "localhost"), Error);
  assertMatch(await router.nextLine() ?? "", /^refused: no worker serves localhost/);
});

Deno.test("sni_router: a ClientHello in several records, which come slowly, is read too; garbage is refused", async () => {
  await using router = await startExample("sni_router.ts");
  // The first record of a connection on its way to the router, in records of 100 bytes.
  using relay = listen({ hostname: "127.0.0.1", port: 0 });
  const relaying = (async () => {
    using client = (await relay.accept()).toConn();
    using server = (await connect({ port: router.port })).toConn();
    const buffer = new Uint8Array(16_384);
    for (const record of inRecords(buffer.slice(5, (await client.read(buffer))!), 100)) {
      await server.write(record);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await Promise.allSettled([client.readable.pipeTo(server.writable), server.readable.pipeTo(client.writable)]);
  })();
  assertMatch(await getSecurely(relay.addr.port, "one.test"), /from one\.test, process/);
  await within(20_000, relaying);
  assertMatch(await router.nextLine() ?? "", /^one\.test goes to/);

  const noise = Uint8Array.from([22, 3, 1, 0, 2, 9, 9]);
  for (
    const [bytes, reason] of [["GET / HTTP/1.1\r\n\r\n", "not a ClientHello"], [noise, "not a ClientHello"]] as const
  ) {
    using client = (await connect({ port: router.port })).toConn();
    await client.write(typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes);
    assertStringIncludes(await router.nextLine() ?? "", `refused: This is ${reason}`);
    assertEquals(await within(20_000, client.read(new Uint8Array(1)).catch(() => null)), null);
  }
});

/** A message in TLS records of at most so many bytes. */
function inRecords(message: Uint8Array, most: number): Uint8Array[] {
  return Array.from({ length: Math.ceil(message.length / most) }, (_, index) => {
    const payload = message.subarray(index * most, (index + 1) * most);
    return concat([Uint8Array.from([22, 3, 1, payload.length >> 8, payload.length & 255]), payload]);
  });
}

/** Looks at as many bytes as it is told to, as if they came that slowly; how often, and what it finds. */
function look(bytes: Uint8Array): { looks: number; name: string | undefined } {
  let atLeast = 1;
  for (let looks = 1;; looks++) {
    if (bytes.length < atLeast) throw new RangeError("The bytes have come to their end");
    const hello = findClientHello(bytes.subarray(0, atLeast));
    if ("message" in hello) return { looks, name: serverNameOf(hello.message) };
    assert(hello.atLeast > atLeast && hello.atLeast <= 16_384, `${hello.atLeast} after ${atLeast}`);
    atLeast = hello.atLeast;
  }
}

Deno.test("a ClientHello is found in one record or many; a broken one throws and nothing worse", async () => {
  const record = await clientHello("one.test");
  const message = record.subarray(5);
  assertEquals(look(record), { looks: 3, name: "one.test" });
  // What comes after it does not matter.
  assertEquals(look(concat([record, new Uint8Array(100)])).name, "one.test");
  for (const most of [1, 2, 3, 4, 5, 100, message.length - 1]) {
    const records = concat(inRecords(message, most));
    assertEquals(look(records).name, "one.test", `records of ${most}`);
    for (let length = 0; length < records.length; length += Math.ceil(records.length / 40)) {
      assertThrows(() => look(records.subarray(0, length)), RangeError, "come to their end");
    }
  }
  for (let length = 0; length < message.length; length++) {
    assertThrows(() => serverNameOf(message.subarray(0, length)), RangeError);
  }
  const next = random(7);
  const split = concat(inRecords(message, 60));
  for (let run = 0; run < 4_000; run++) {
    const broken = (run % 2 ? record : split).map((byte) => next() < 0.01 ? Math.floor(next() * 256) : byte);
    try {
      look(broken);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
  }
});

Deno.test("what begins as a ClientHello and is none, or too long, is told at once", () => {
  const record = (...payload: number[]) =>
    Uint8Array.from([22, 3, 1, payload.length >> 8, payload.length & 255, ...payload]);
  assertThrows(() => findClientHello(new TextEncoder().encode("GET /")), RangeError, "not a ClientHello");
  assertThrows(() => findClientHello(record()), RangeError, "not a ClientHello");
  assertThrows(() => findClientHello(record(2, 0, 0, 1, 0)), RangeError, "not a ClientHello");
  assertThrows(() => findClientHello(Uint8Array.from([22, 3, 1, 0xff, 0xff])), RangeError, "longer than 16384");
  assertThrows(() => findClientHello(record(1, 1, 0, 0)), RangeError, "longer than 16384");
  assertEquals(findClientHello(record(1)), { atLeast: 11 });
});
