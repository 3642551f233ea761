/** A service manager that hears what services notify it of (sd_notify(3)). */
import { assertEquals } from "@std/assert";
import { endChild, lines } from "./process.ts";

/**
 * Prints each datagram as JSON, with the process id the kernel says it is from, and what came with it; slowly, if asked
 * to. What came is closed.
 */
const MANAGER = `
import json, os, socket, stat, struct, sys, time
address = sys.argv[1]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
s.bind("\\0" + address[1:] if address.startswith("@") else address)
print("bound", flush=True)
if len(sys.argv) > 2: time.sleep(float(sys.argv[2]))
while True:
    data, ancillary, flags, sender = s.recvmsg(65536, socket.CMSG_SPACE(12) + socket.CMSG_SPACE(253 * 4))
    passed = []
    for level, kind, value in ancillary:
        if kind == socket.SCM_CREDENTIALS:
            pid = struct.unpack("3i", value)[0]
            continue
        for fd in struct.unpack(f"{len(value) // 4}i", value):
            is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
            passed.append(socket.socket(fileno=os.dup(fd)).getsockname() if is_socket else "no socket")
            os.close(fd)
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    print(json.dumps([pid, data.decode(), now, passed]), flush=True)
`;

/** Runs a test with a manager, which the environment variable names; `next` is the next notification. */
export async function withManager(
  test: (
    env: Map<string, string>,
    next: () => Promise<[pid: number, text: string, time: number, passed: unknown[]]>,
  ) => Promise<void>,
  address: string,
  ...args: string[]
): Promise<void> {
  const manager = new Deno.Command("python3", {
    args: ["-c", MANAGER, address, ...args],
    stdin: "null",
    stdout: "piped",
  })
    .spawn();
  try {
    const line = lines(manager);
    assertEquals(await line(), "bound");
    await test(new Map([["NOTIFY_SOCKET", address]]), async () => JSON.parse(await line() ?? "null"));
  } finally {
    await endChild(manager);
  }
}
