// Messages that carry descriptors, where the system lets no more be on their way.
import { assertEquals } from "@std/assert";
import { FFI_GRANT, RUN } from "../kit/process.ts";

const onLinux = { ignore: Deno.build.os !== "linux" };

/** Without these, which root has, a user may have as many descriptors on their way as one process may have open. */
const ORDINARY = ["setpriv", "--bounding-set=-sys_resource,-sys_admin", "--inh-caps=-all"];

Deno.test("sending descriptors waits while too many are on their way", onLinux, async () => {
  const script = new URL("../children/crowd_messages.ts", import.meta.url).href;
  const [command, ...args] = ["prlimit", "--nofile=512", ...Deno.uid() === 0 ? ORDINARY : [], Deno.execPath()];
  const { stdout, stderr } = await new Deno.Command(command!, { args: [...args, ...RUN, FFI_GRANT, script] }).output();
  assertEquals(new TextDecoder().decode(stderr), "");
  assertEquals(new TextDecoder().decode(stdout), "waits\nsends again\n");
});
