/**
 * Reads the modules of the package, and their imports.
 *
 * @module
 */
import project from "../deno.json" with { type: "json" };

/**
 * The kind of an import: when the module is loaded, by `import()`, or only for types. If there are several, the first
 * of these counts.
 */
export type ImportKind = "static" | "dynamic" | "type";

/** A module → the modules that it imports, with paths in the project such as `sockets/socket.ts`. */
export type ModuleGraph = ReadonlyMap<string, ReadonlyMap<string, ImportKind>>;

/** The name of an entry point, such as `./http` → the path of its module. */
export const ENTRY_POINTS: ReadonlyMap<string, string> = new Map(
  Object.entries(project.exports).map(([name, path]) => [name, path.slice("./".length)]),
);

/** An import, as `deno info --json` prints it. */
interface Dependency {
  readonly code?: { readonly specifier?: string };
  readonly type?: { readonly specifier?: string };
  readonly isDynamic?: boolean;
}

interface Info {
  readonly modules: readonly { readonly specifier: string; readonly dependencies?: readonly Dependency[] }[];
}

const PROJECT = new URL("..", import.meta.url);
/** The stand-ins for JSR packages, which do not belong to this package. Empty if the real packages are used. */
const STAND_INS: readonly string[] = (Reflect.get(project, "links") ?? []).map((path: string) => path.slice(2) + "/");
const KINDS: readonly ImportKind[] = ["static", "dynamic", "type"];

/** Returns the modules that the entry points import, directly or indirectly. These are the published modules. */
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

/** Returns the path of a module in the project; `undefined` if it belongs to another package or is a data file. */
function ownPath(specifier: string): string | undefined {
  if (!specifier.startsWith(PROJECT.href) || specifier.endsWith(".json")) return undefined;
  const path = specifier.slice(PROJECT.href.length);
  return STAND_INS.some((folder) => path.startsWith(folder)) ? undefined : path;
}
