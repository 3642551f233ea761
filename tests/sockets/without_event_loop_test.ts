// Waiting where Deno's event loop does not tell of sockets, and a pool thread waits: the same tests once more.
import { assertEquals } from "@std/assert";

const TESTS = [
  "accepting_test.ts",
  "datagram_test.ts",
  "local_test.ts",
  "socket_test.ts",
  "waiting_test.ts",
  "../ffi/epoll_test.ts",
  "../ffi/stream_io_test.ts",
];

/** On Windows and macOS nothing else is done. */
const onLinux = { ignore: Deno.build.os !== "linux" };

for (const file of TESTS) {
  Deno.test(`by pool threads: ${file}`, onLinux, async () => {
    const url = (path: string) => new URL(path, import.meta.url).href;
    const preload = `--preload=${url("../kit/without_event_loop.ts")}`;
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["test", "--quiet", "--allow-all", "--no-check", preload, url(file)],
      signal: AbortSignal.timeout(120_000),
    }).output();
    const text = new TextDecoder();
    assertEquals(code, 0, text.decode(stdout) + text.decode(stderr));
  });
}
