// HTTP, TLS and WebSockets where Deno cannot adopt sockets: the same tests once more.
import { assertEquals } from "@std/assert";

const TESTS = [
  "serve_http_test.ts",
  "requests_test.ts",
  "responses_test.ts",
  "unread_body_test.ts",
  "uploads_test.ts",
  "bad_programs_test.ts",
  "body_limit_test.ts",
  "half_open_test.ts",
  "smuggling_test.ts",
  "shutdown_test.ts",
  "slow_clients_test.ts",
  "tls_test.ts",
  "web_socket_test.ts",
  "idle_web_socket_test.ts",
  "fuzz_test.ts",
];

/** The same path is tried under Wine by the tests of streams. */
const native = { ignore: Deno.build.os === "windows" };

Deno.test("HTTP is served on streams of the library's own, too", native, async () => {
  const url = (path: string) => new URL(path, import.meta.url).href;
  const preload = `--preload=${url("../kit/without_adoption.ts")}`;
  await Promise.all(TESTS.map(async (file) => {
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["test", "--quiet", "--allow-all", "--no-check", preload, url(file)],
      signal: AbortSignal.timeout(120_000),
    }).output();
    const text = new TextDecoder();
    assertEquals(code, 0, text.decode(stdout) + text.decode(stderr));
  }));
});
