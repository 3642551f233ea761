// The README's source and worker, as they are printed there, in processes of their own.
import { assert, assertMatch } from "@std/assert";
import { connect, listen, WinsockError } from "@winsock/handoff";
import { readText } from "../kit/connections.ts";
import { FFI_GRANT, until } from "../kit/process.ts";

const ROOT = new URL("../../", import.meta.url);
const README = (await Deno.readTextFile(new URL("README.md", ROOT))).replaceAll("\r\n", "\n");

function snippet(name: string): string {
  const code = new RegExp(`\`\`\`ts\\n(// ${name}\\n[^]*?)\`\`\``).exec(README)?.[1];
  if (code === undefined) throw new Error(`The README has no ${name}`);
  return code;
}

/** A port nobody listens on at the moment. */
function freePort(): number {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** What the server answers; nothing while it is not there yet. */
async function answer(port: number): Promise<string> {
  try {
    using conn = (await connect({ port })).toConn();
    return await readText(conn, 1_000);
  } catch (error) {
    if (error instanceof WinsockError && error.codeName === "WSAECONNREFUSED") return "";
    throw error;
  }
}

Deno.test("the README's source and worker run as written, under the permissions it names", async () => {
  const port = freePort();
  // Inside the project, where the package's name means the project.
  const folder = new URL(`.cache/readme-${crypto.randomUUID()}/`, ROOT);
  await Deno.mkdir(folder, { recursive: true });
  await Deno.writeTextFile(new URL("source.ts", folder), snippet("source.ts").replace("8080", `${port}`));
  await Deno.writeTextFile(new URL("worker.ts", folder), snippet("worker.ts"));
  const grants = ["--no-prompt", "--allow-run", FFI_GRANT];
  const source = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--cached-only", ...grants, "source.ts"],
    cwd: folder,
  }).spawn();
  try {
    let text = "";
    await until(async () => (text = await answer(port)) !== "", "the server answers");
    assertMatch(text, /^\{"acceptedBy":\d+\}, answered by \d+\n$/);
    const [acceptedBy, answeredBy] = [...text.matchAll(/\d+/g)].map(([pid]) => Number(pid));
    assert(acceptedBy === source.pid && answeredBy !== source.pid, text);
  } finally {
    source.kill("SIGKILL");
    await source.status;
    await until(async () => await Deno.remove(folder, { recursive: true }).then(() => true, () => false), "it is gone");
  }
});
