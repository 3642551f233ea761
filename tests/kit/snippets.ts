/** Code of the documentation, run as it is printed there. */
import { connect, listen } from "@winsock/handoff";
import { readText } from "./connections.ts";
import { FFI_GRANT, RUN, until } from "./process.ts";

const ROOT = new URL("../../", import.meta.url);

/** Files of a page, laid out in a folder of their own. */
export interface Snippets extends AsyncDisposable {
  readonly folder: URL;
}

/**
 * Lays out the code blocks of a page that begin with a comment that is their file's name.
 *
 * @param page The page, from the project's folder.
 * @param names The files wanted.
 * @param port What to put in the place of port 8080.
 */
export async function layOutSnippets(page: string, names: readonly string[], port: number): Promise<Snippets> {
  const text = (await Deno.readTextFile(new URL(page, ROOT))).replaceAll("\r\n", "\n");
  // Inside the project, where the package's name means the project.
  const folder = new URL(`.cache/snippets-${crypto.randomUUID()}/`, ROOT);
  await Deno.mkdir(folder, { recursive: true });
  for (const name of names) {
    const code = new RegExp(`\`\`\`ts\\n(// ${name}\\n[^]*?)\`\`\``).exec(text)?.[1];
    if (code === undefined) throw new Error(`${page} has no ${name}`);
    await Deno.writeTextFile(new URL(name, folder), code.replaceAll("8080", `${port}`));
  }
  return {
    folder,
    async [Symbol.asyncDispose]() {
      const remove = () => Deno.remove(folder, { recursive: true }).then(() => true, () => false);
      await until(remove, "the folder of the snippets is gone");
    },
  };
}

/** Starts a file of a page, under the permissions the page names and no others. */
export function startSnippet({ folder }: Snippets, name: string, grants: readonly string[]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--cached-only", "--no-prompt", ...grants, name],
    cwd: folder,
    stdin: "null",
    stdout: "piped",
  }).spawn() as Deno.ChildProcess;
}

/** Has a server that has written `server.control` replace itself, by the command; returns the new version's process id. */
export async function upgradeSnippet({ folder }: Snippets): Promise<number> {
  const cli = new URL("cli/mod.ts", ROOT).href;
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...RUN, "--allow-read=server.control", FFI_GRANT, cli, "upgrade", "server.control"],
    cwd: folder,
  }).output();
  const text = new TextDecoder();
  const [, processId] = /^Process (\d+) serves now/.exec(text.decode(stdout)) ?? [];
  if (processId === undefined) throw new Error(text.decode(stderr));
  return Number(processId);
}

/** A port nobody listens on at the moment. */
export function freePort(): number {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** What a server says on a new connection that is sent the given text; nothing while no server is there. */
export async function answerOf(port: number, text = ""): Promise<string> {
  try {
    using conn = (await connect({ port })).toConn();
    if (text !== "") await conn.write(new TextEncoder().encode(text));
    return await readText(conn, 4_000);
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) return "";
    throw error;
  }
}

/** Makes an HTTP request on a connection of its own; returns the process id that the answer ends with. */
export async function processThatAnswers(port: number): Promise<number> {
  const request = "GET /you HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
  let answer = "";
  await until(async () => (answer = await answerOf(port, request)) !== "", "the server answers");
  const [, processId] = /^HTTP\/1\.1 200 [^]* from process (\d+)\n/.exec(answer) ?? [];
  if (processId === undefined) throw new Error(`It answers ${answer}`);
  return Number(processId);
}
