// The HTTP examples run as they are, under the permissions they say, and answer real clients.
import { assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import https from "node:https";
import { CERTIFICATE } from "../../examples/certificate.ts";
import { serverNameOf } from "../../examples/client_hello.ts";
import { clientHello } from "../kit/client_hello.ts";
import { endChild, FFI_GRANT, lines, RUN, within } from "../kit/process.ts";
import { random } from "../kit/random.ts";

/** Starts an example that listens, and reads the port from its first line. */
async function startExample(script: string) {
  const url = new URL(`../../examples/${script}`, import.meta.url).href;
  const args = [...RUN, "--allow-run", FFI_GRANT, url];
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

Deno.test("the name is read from a whole ClientHello; a broken one throws and nothing worse", async () => {
  const hello = await clientHello("one.test");
  assertEquals(serverNameOf(hello), "one.test");
  for (let length = 0; length < hello.length; length++) {
    assertThrows(() => serverNameOf(hello.subarray(0, length)), RangeError);
  }
  const next = random(7);
  for (let run = 0; run < 2_000; run++) {
    const broken = hello.map((byte) => next() < 0.01 ? Math.floor(next() * 256) : byte);
    try {
      serverNameOf(broken);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
  }
});
