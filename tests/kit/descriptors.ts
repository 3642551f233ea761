/** Counting descriptors: Linux by /proc, macOS by lsof, Windows by the system's own table of handles. */
import { listen } from "@winsock/handoff";
import { until } from "./process.ts";

const SYSTEM_EXTENDED_HANDLE_INFORMATION = 64;
const STATUS_INFO_LENGTH_MISMATCH = 0xc0000004 | 0;

/** How many descriptors a process has open. */
export function countDescriptors(processId: number = Deno.pid): number {
  return Deno.build.os === "windows" ? countHandles(processId) : countFiles(processId);
}

/** How many descriptors each of the processes has open, once that stays the same for a while. */
export async function settledDescriptors(...processIds: number[]): Promise<number[]> {
  let last: number[] = [];
  await until(async () => {
    await new Promise((resolve) => setTimeout(resolve, 300));
    const now = processIds.map(countDescriptors);
    const same = now.every((count, index) => count === last[index]);
    last = now;
    return same;
  }, "the number of descriptors settles");
  return last;
}

function countFiles(processId: number): number {
  if (Deno.build.os === "darwin") return listedFiles(processId).length;
  return [...Deno.readDirSync(`/proc/${processId}/fd`)].length;
}

/**
 * The pipes, sockets and the like a process has open, one line each: on Windows without threads and events, which come
 * and go, on Linux without the files of Deno's own cache, which do too.
 */
export function openStreams(processId: number): string[] {
  return Deno.build.os === "windows" ? fileHandles(processId) : streamFiles(processId);
}

/** How many descriptors of this process are of the same socket or pipe. */
export function descriptorsLike(s: bigint): number {
  const streams = openStreams(Deno.pid).map((line) => [Number.parseInt(line), line.slice(line.indexOf(" "))]);
  const [, thing] = streams.find(([number]) => number === Number(s)) ?? [];
  return streams.filter(([, other]) => other === thing).length;
}

/** Linux: the flags a descriptor of this process has, `O_CLOEXEC` among them. */
export function statusFlags(s: bigint): number {
  return Number.parseInt(/^flags:\s+([0-7]+)$/m.exec(Deno.readTextFileSync(`/proc/self/fdinfo/${s}`))![1]!, 8);
}

/** Linux: whether an epoll set of this process has a descriptor's socket. */
export function isInEpollSet(s: bigint): boolean {
  const inode = Number(/^socket:\[(\d+)\]$/.exec(link(`/proc/self/fd/${s}`))![1]).toString(16);
  const sets = streamFiles(Deno.pid).filter((line) => line.endsWith("[eventpoll]"));
  return sets.some((line) => {
    const info = Deno.readTextFileSync(`/proc/self/fdinfo/${Number.parseInt(line)}`);
    return new RegExp(`^tfd:.* ino:${inode} `, "m").test(info);
  });
}

function streamFiles(processId: number): string[] {
  if (Deno.build.os === "darwin") return listedFiles(processId).filter((line) => !/^\d+ (REG|DIR|CHR) /.test(line));
  const folder = `/proc/${processId}/fd`;
  return [...Deno.readDirSync(folder)].map(({ name }) => `${name} ${link(`${folder}/${name}`)}`)
    .filter((line) => !/ (\/|$)/.test(line));
}

/** The descriptors of a process, one line each: number, type, name. */
export function listedFiles(processId: number): string[] {
  const args = ["-nP", "-a", "-p", String(processId), "-d", "0-99999", "-F", "ftn"];
  const { stdout } = new Deno.Command("lsof", { args, stderr: "null" }).outputSync();
  const files = new TextDecoder().decode(stdout).split(/^f/m).slice(1);
  return files.map((file) =>
    file.trim().split("\n").map((field, index) => index === 0 ? field : field.slice(1)).join(" ")
  );
}

/** What a descriptor is; nothing once it was closed. */
function link(path: string): string {
  try {
    return Deno.readLinkSync(path);
  } catch {
    return "";
  }
}

function fileHandles(processId: number): string[] {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const handles = allHandles();
  const file = handles.find(({ owner, value }) => owner === Deno.pid && value === listener.handle)!.type;
  return handles.filter(({ owner, type }) => owner === processId && type === file).map(({ value }) => `${value}`);
}

function countHandles(processId: number): number {
  return allHandles().filter(({ owner }) => owner === processId).length;
}

interface Handle {
  readonly owner: number;
  readonly value: bigint;
  /** Number of its kind, which every version of the system has its own of. */
  readonly type: number;
}

/** GetProcessHandleCount answers 0 under Wine; the table of all handles is right there and on Windows. */
function allHandles(): Handle[] {
  using ntdll = openNtdll();
  for (let size = 1 << 20;; size *= 2) {
    const table = new Uint8Array(size);
    const status = ntdll.symbols.NtQuerySystemInformation(SYSTEM_EXTENDED_HANDLE_INFORMATION, table, size, null);
    if (status === STATUS_INFO_LENGTH_MISMATCH) continue;
    if (status !== 0) throw new Error(`NtQuerySystemInformation failed with ${status}`);
    const view = new DataView(table.buffer);
    return Array.from({ length: Number(view.getBigUint64(0, true)) }, (_, index) => {
      const entry = 16 + index * 40;
      return {
        owner: Number(view.getBigUint64(entry + 8, true)),
        value: view.getBigUint64(entry + 16, true),
        type: view.getUint16(entry + 30, true),
      };
    });
  }
}

function openNtdll() {
  const library = Deno.dlopen("C:\\Windows\\System32\\ntdll.dll", {
    NtQuerySystemInformation: { parameters: ["i32", "buffer", "u32", "buffer"], result: "i32" },
  });
  return { symbols: library.symbols, [Symbol.dispose]: () => library.close() };
}
