// HTTP, TLS and WebSockets where Deno cannot adopt sockets: the same tests once more.
import { assertEquals } from "@std/assert";

const TESTS = ["serve_http_test.ts", "slow_clients_test.ts", "tls_test.ts", "web_socket_test.ts", "fuzz_test.ts"];

Deno.test("HTTP is served on streams of the library's own, too", async () => {
  const url = (path: string) => new URL(path, import.meta.url).href;
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "test",
      "--quiet",
      "--allow-all",
      "--no-check",
      `--preload=${url("../kit/without_adoption.ts")}`,
      ...TESTS.map((file) => url(file)),
    ],
    signal: AbortSignal.timeout(120_000),
  }).output();
  const text = new TextDecoder();
  assertEquals(code, 0, text.decode(stdout) + text.decode(stderr));
});
