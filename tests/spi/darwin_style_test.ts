// Linux in macOS' way: the tests of sharing and handing over once more.
import { assert } from "@std/assert";
import { withNative } from "../kit/native.ts";
import { within } from "../kit/process.ts";

const PRELOAD = `--preload=${new URL("../kit/darwin_style.ts", import.meta.url).href}`;
const inDarwinStyle = { ignore: withNative.ignore || Deno.build.os !== "linux" };

/** Runs the tests of files in a process of their own; returns the line that sums them up, or all it printed. */
async function runTests(files: readonly string[]): Promise<string> {
  // A thousand hand-offs leak no more here than elsewhere, and take long.
  const args = ["test", "--quiet", "--allow-all", "--no-check", "--cached-only", "--filter=/^[^1]/", PRELOAD];
  const paths = files.map((file) => new URL(`../${file}`, import.meta.url).href);
  const command = new Deno.Command(Deno.execPath(), { args: [...args, ...paths], env: { NO_COLOR: "1" } });
  const { stdout, stderr } = await command.output();
  const output = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  return /^ok \| .*/m.exec(output)?.[0] ?? output;
}

/** The directories of rendezvous; those of processes that were killed outlast them. */
function leftBehind(): string[] {
  const names = [...Deno.readDirSync("/tmp")].map(({ name }) => name);
  return names.filter((name) => name.startsWith("winsock-handoff-")).map((name) => `/tmp/${name}`);
}

/** Whether a process has a directory open, or listens in it: another run of these tests on this machine may. */
function isInUse(directory: string): boolean {
  if (Deno.readTextFileSync("/proc/net/unix").includes(`${directory}/`)) return true;
  const processes = [...Deno.readDirSync("/proc")].filter(({ name }) => /^\d+$/.test(name));
  return processes.some(({ name }) => descriptors(`/proc/${name}/fd`).includes(directory));
}

function descriptors(folder: string): string[] {
  try {
    return [...Deno.readDirSync(folder)].map(({ name }) => Deno.readLinkSync(`${folder}/${name}`));
  } catch {
    return [];
  }
}

Deno.test("sharing and handing over work in macOS' way", inDarwinStyle, async () => {
  const groups: readonly [files: readonly string[], least: number][] = [
    [["spi/contract_test.ts", "spi/provider_test.ts", "spi/rogue_test.ts"], 40],
    [["handoff/handoff_test.ts", "handoff/source_test.ts", "handoff/target_test.ts", "handoff/abuse_test.ts"], 75],
    [["ffi/decisions_test.ts", "handoff/processes_test.ts"], 12],
    [["sockets/accepting_test.ts", "sockets/socket_test.ts", "sockets/local_test.ts", "sockets/datagram_test.ts"], 50],
  ];
  const before = leftBehind();
  const summaries = await within(120_000, Promise.all(groups.map(([files]) => runTests(files))));
  // Sources that the tests kill leave their rendezvous behind.
  for (const path of leftBehind().filter((path) => !before.includes(path) && !isInUse(path))) {
    await Deno.remove(path, { recursive: true });
  }
  for (const [index, summary] of summaries.entries()) {
    assert(Number(/^ok \| (\d+) passed/.exec(summary)?.[1] ?? 0) >= groups[index]![1], summary);
  }
});
