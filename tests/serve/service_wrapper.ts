/**
 * Runs Deno with the given arguments in a console, as a wrapper for Windows services does, and exits with its exit code.
 * Each line of stdin names an event that the processes of the console get: `Ctrl-C` or `Ctrl-Break`.
 *
 * @module
 */
import { TextLines } from "../kit/text_lines.ts";

const EVENTS = ["Ctrl-C", "Ctrl-Break"];
const STD_HANDLES = [-10, -11, -12];

const { symbols: kernel32 } = Deno.dlopen("kernel32.dll", {
  AllocConsole: { parameters: [], result: "i32" },
  FreeConsole: { parameters: [], result: "i32" },
  GenerateConsoleCtrlEvent: { parameters: ["u32", "u32"], result: "i32" },
  GetStdHandle: { parameters: ["i32"], result: "pointer" },
  SetStdHandle: { parameters: ["i32", "pointer"], result: "i32" },
});

// A new console takes the place of stdin, stdout and stderr. They stay the pipes of the parent here.
const handles = STD_HANDLES.map((which) => kernel32.GetStdHandle(which));
kernel32.FreeConsole();
if (kernel32.AllocConsole() === 0) throw new Error("Cannot open a console");
STD_HANDLES.forEach((which, index) => kernel32.SetStdHandle(which, handles[index]!));

// The events are also for this process.
for (const signal of ["SIGINT", "SIGBREAK"] as const) Deno.addSignalListener(signal, () => {});
const child = new Deno.Command(Deno.execPath(), { args: Deno.args, stdin: "null" }).spawn();
child.status.then(({ code }) => Deno.exit(code));
for await (const line of Deno.stdin.readable.pipeThrough(new TextLines())) {
  if (kernel32.GenerateConsoleCtrlEvent(EVENTS.indexOf(line), 0) === 0) throw new Error(`Cannot send ${line}`);
}
