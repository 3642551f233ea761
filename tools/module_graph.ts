/**
 * The modules of the package, and which imports which.
 *
 * @module
 */
import project from "../deno.json" with { type: "json" };

/**
 * How a module imports another: when it is loaded, by `import()`, or for its types alone. Of several ways the first of
 * these counts.
 */
export type ImportKind = "static" | "dynamic" | "type";

/** Module → the modules it imports, all by their paths in the project: `sockets/socket.ts`. */
export type ModuleGraph = ReadonlyMap<string, ReadonlyMap<string, ImportKind>>;

/** The name of an entry point, as in `./http` → the path of its module. */
export const ENTRY_POINTS: ReadonlyMap<string, string> = new Map(
  Object.entries(project.exports).map(([name, path]) => [name, path.slice("./".length)]),
);

/** What `deno info --json` tells of an import. */
interface Dependency {
  readonly code?: { readonly specifier?: string };
  readonly type?: { readonly specifier?: string };
  readonly isDynamic?: boolean;
}

interface Info {
  readonly modules: readonly { readonly specifier: string; readonly dependencies?: readonly Dependency[] }[];
}

const PROJECT = new URL("..", import.meta.url);
/** Stand-ins for JSR's packages, which are no part of this one; none where the real ones are used. */
const STAND_INS: readonly string[] = (Reflect.get(project, "links") ?? []).map((path: string) => path.slice(2) + "/");
const KINDS: readonly ImportKind[] = ["static", "dynamic", "type"];

/** Asks Deno for the modules that the entry points import, directly or not: those are what is published. */
export async function readModuleGraph(): Promise<ModuleGraph> {
  const infos = await Promise.all([...ENTRY_POINTS.values()].map(readInfo));
  const graph = new Map<string, Map<string, ImportKind>>();
  for (const { specifier, dependencies = [] } of infos.flatMap(({ modules }) => modules)) {
    const path = ownPath(specifier);
    if (path === undefined || graph.has(path)) continue;
    const imports = new Map<string, ImportKind>();
    for (const { code, type, isDynamic } of dependencies) {
      add(imports, code?.specifier, isDynamic ? "dynamic" : "static");
      add(imports, type?.specifier, "type");
    }
    graph.set(path, imports);
  }
  return graph;
}

async function readInfo(entryPoint: string): Promise<Info> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", entryPoint],
    cwd: PROJECT,
  }).output();
  const text = new TextDecoder();
  if (!success) throw new Error(`deno info ${entryPoint} failed:\n${text.decode(stderr)}`);
  return JSON.parse(text.decode(stdout));
}

function add(imports: Map<string, ImportKind>, specifier: string | undefined, kind: ImportKind): void {
  const path = specifier === undefined ? undefined : ownPath(specifier);
  if (path === undefined) return;
  const known = imports.get(path);
  if (known === undefined || KINDS.indexOf(kind) < KINDS.indexOf(known)) imports.set(path, kind);
}

/** The path of a module in the project; `undefined` if it belongs to another package, or is a file of data. */
function ownPath(specifier: string): string | undefined {
  if (!specifier.startsWith(PROJECT.href) || specifier.endsWith(".json")) return undefined;
  const path = specifier.slice(PROJECT.href.length);
  return STAND_INS.some((folder) => path.startsWith(folder)) ? undefined : path;
}
