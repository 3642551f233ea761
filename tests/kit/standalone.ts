// Makes a program believe that `deno compile` has made it, for machines on which that cannot be run: Deno says that it is
// compiled, its path is that of the program, and starting that path starts the same program with the same permissions.
// The query of this module's URL has the flags of the program.
const PROGRAM = Deno.build.os === "windows" ? "C:\\compiled\\program.exe" : "/compiled/program";
const FLAGS: string[] = JSON.parse(new URL(import.meta.url).searchParams.get("flags") ?? "[]");
const deno = Deno.execPath();

Object.defineProperties(Deno, {
  build: { value: { ...Deno.build, standalone: true } },
  execPath: { value: () => PROGRAM },
  Command: {
    value: class extends Deno.Command {
      constructor(command: string | URL, options: Deno.CommandOptions = {}) {
        const { args = [] } = options;
        const own = ["run", ...FLAGS, `--preload=${import.meta.url}`, Deno.mainModule, ...args];
        const isProgram = command === PROGRAM;
        super(isProgram ? deno : command, isProgram ? { ...options, args: own } : options);
      }
    },
  },
});
