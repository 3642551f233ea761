// Tells what a program that it starts inherits, before it takes its first socket and after.
import { receive } from "@winsock/handoff";

await tell(false);
for await (const { socket } of receive()) {
  await tell(true);
  socket.close();
}

/** Runs a program as anybody would, with this process's stdin, and says what it has and reads. */
async function tell(reads: boolean): Promise<void> {
  const list = 'for fd in /proc/self/fd/*; do echo "${fd##*/}:$(readlink "$fd")"; done';
  const script = reads ? `${list}; echo "read:$(cat)"` : list;
  const { stdout } = await new Deno.Command("sh", { args: ["-c", script], stdin: "inherit" }).output();
  console.log(JSON.stringify(new TextDecoder().decode(stdout).trim().split("\n")));
}
