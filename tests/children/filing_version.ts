// A version that takes files: MODE. It writes what it has into the file `log`, and ends when it is retired.
import { inherit } from "@winsock/handoff";

const [mode = "well"] = Deno.args;
const version = await inherit();
// Otherwise nothing keeps the process running.
setInterval(() => {}, 1_000);
const names = version.fileNames;
if (mode === "crash") Deno.exit(4);
if (mode === "hang") await new Promise((resolve) => setTimeout(resolve, 60_000));
if (mode === "refuse") {
  await version.refuse("not today");
  Deno.exit(0);
}

const write = async (file: { write(p: Uint8Array<ArrayBuffer>): Promise<number> } | undefined, text: string) => {
  await file?.write(new TextEncoder().encode(text));
};

// Only what is opened needs a permission, and this process has none.
const opened = await Promise.all([{}, { append: true, create: true }].map(async (options) => {
  return await version.openFile("own", Deno.execPath(), options).then(() => "opened", (error) => error.name);
}));
const log = version.takeFile("log");
if (mode === "well") version.takeFile("lock");
const [pipe, answer] = [version.takeFile("in"), version.takeFile("out")];
await version.markReady();
const buffer = new Uint8Array(100);
const count = await pipe?.read(buffer) ?? 0;
const read = new TextDecoder().decode(buffer.subarray(0, count));
await write(answer, `answer to ${read}`);
await write(log, `${JSON.stringify({ names, opened, read })}\n`);
await version.retired;
await write(log, "retired\n");
Deno.exit(0);
