/** Programs that `deno compile` makes, or that behave as such where it cannot be run. */
import { fileURLToPath } from "node:url";
import { RUN } from "./process.ts";

/** A program that can be started. */
export interface CompiledProgram {
  readonly command: string;
  /** The arguments that come before those of the program. */
  readonly args: readonly string[];
}

/**
 * Compiles a program. `deno compile` needs a file that it fetches once (`denort`); without it, this Deno runs the program
 * with `standalone.ts`.
 *
 * @param main The program.
 * @param grants The permissions that it is compiled with.
 * @param folder The folder for what is made.
 */
export async function compileProgram(main: URL, grants: readonly string[], folder: string): Promise<CompiledProgram> {
  const command = `${folder}/program${Deno.build.os === "windows" ? ".exe" : ""}`;
  const args = ["compile", "--no-check", "--no-prompt", ...grants, "--output", command, fileURLToPath(main)];
  const { success, stderr } = await new Deno.Command(Deno.execPath(), { args, stdout: "null" }).output();
  if (success) return { command, args: [] };
  const errors = new TextDecoder().decode(stderr);
  if (!/denort/.test(errors)) throw new Error(`Cannot compile ${main}: ${errors}`);
  console.log("deno compile cannot fetch what it needs: Deno runs the program and says that it is compiled");
  const preload = new URL("standalone.ts", import.meta.url);
  const flags = [...RUN.slice(1), ...grants];
  preload.searchParams.set("flags", JSON.stringify(flags));
  return { command: Deno.execPath(), args: ["run", ...flags, `--preload=${preload}`, main.href] };
}
