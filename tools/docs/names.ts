/**
 * Checks the names in the documentation: a name that looks like one of this library must be exported.
 *
 *     deno run -A tools/docs/names.ts
 *
 * @module
 */
import { visit } from "npm:unist-util-visit@^5.1.0";
import { type Api, type Exported, readApi } from "../api/doc.ts";
import { type Page, pagePaths, type Problem, readPage } from "./pages.ts";

/** Matches `name`, `Name.member` or `variable.member`, with optional arguments. */
const NAME = /^(?:new )?([A-Za-z_]\w*)(?:\.([A-Za-z_]\w*))?(\(.*\))?$/s;
/**
 * Matches names that do not belong to the library: native names, constants, and names with an underscore, such as
 * `WSAEINVAL`, `dwServiceFlags1`, `send_fds`.
 */
const NATIVE = /^(?:[A-Z0-9_]+|[a-z]+_[a-z_]+|(?:WSA|WSP|WSC|WPU)[A-Z]\w*|(?:dw|sz|lp|i)[A-Z]\w*)$/;
/** Matches the extension of a file name. */
const FILE = /^(?:ts|js|md|json|lock|exe|dll|py)$/;

/** Names of other projects, which cannot be checked here. */
const FOREIGN = new Set([
  ...["onListen"], // Deno
  ...["received"], // OpenTelemetry: the metric `handoff.received`
  ...["Server", "emit", "fork", "on", "schedulingPolicy"], // Node
  ...["AddFile", "Exit", "PIDFile", "Ready", "UpgradeTimeout", "WaitForParent"], // tableflip
  ...["CancelIoEx", "DuplicateHandle", "ReadFile", "SetEvent", "SetHandleInformation", "TerminateProcess"],
  ...["WaitForSingleObject"],
  ...["accept4", "epoll_create1", "pipe2"], // Linux
  ...["DuplicateAndClose", "Serialize"], // .NET
  ...["DupFd", "DupSocket", "Queue", "connection", "fromshare", "share"], // Python
]);

/** The members of every error. */
const OF_ERRORS = ["message", "cause", "name", "stack"];

/** The members of the classes of Deno and browsers: `pipeTo`, `statusText`, `BadResource`. */
const OF_PLATFORM = new Set(
  Object.getOwnPropertyNames(globalThis).filter((name) => /^[A-Z]/.test(name))
    .map((name) => Reflect.get(globalThis, name))
    .flatMap((value) => [value, value?.prototype, value?.errors])
    .concat(globalThis)
    .flatMap((value) => Object.getOwnPropertyNames(value ?? {})),
);

/** The exported names, each with its members. */
class KnownNames {
  readonly #exported: ReadonlyMap<string, ReadonlySet<string>>;
  readonly #members: ReadonlySet<string>;

  constructor(api: Api) {
    const all = [...api.values()].flat();
    this.#exported = new Map(all.map((exported) => [exported.name, membersOf(exported)]));
    this.#members = new Set([...this.#exported.values()].flatMap((members) => [...members]));
  }

  /** Returns the problem of a piece of code in a text; `undefined` if it does not look like a name of this library. */
  problemOf(code: string): string | undefined {
    const [, head = "", member, call] = NAME.exec(code) ?? [];
    if (head === "" || head in globalThis || NATIVE.test(head)) return;
    if (member === undefined) return this.#isName(head, call !== undefined) ? undefined : `${head} is not exported`;
    if ([...OF_ERRORS, ...FOREIGN].includes(member) || NATIVE.test(member) || FILE.test(member)) return;
    const members = this.#exported.get(head);
    // The members of a constant are unknown. For a variable, it is only known that a type has such a member.
    if (members?.size === 0 || members?.has(member)) return;
    if (members !== undefined) return `${head} has no ${member}`;
    return this.#isMember(member) ? undefined : `nothing that is exported has a ${member}`;
  }

  #isName(name: string, called: boolean): boolean {
    const aWord = /^[a-z]+$/.test(name) && !called;
    return aWord || this.#exported.has(name) || this.#isMember(name);
  }

  #isMember(name: string): boolean {
    return this.#members.has(name) || FOREIGN.has(name) || OF_PLATFORM.has(name);
  }
}

/** Returns the properties and methods of a class or interface. */
function membersOf({ declarations }: Exported): Set<string> {
  const defs = declarations.flatMap(({ kind, def }) => kind === "class" || kind === "interface" ? [def] : []);
  return new Set(defs.flatMap((def) => [...def.properties ?? [], ...def.methods ?? []].map(({ name }) => name)));
}

/** Returns the names in a page that are not exported. */
export function unknownNames({ path, tree }: Page, api: Api): Problem[] {
  const known = new KnownNames(api);
  const problems: Problem[] = [];
  visit(tree, "inlineCode", ({ value, position }) => {
    const text = known.problemOf(value);
    if (text !== undefined) problems.push({ path, line: position?.start.line ?? 0, text });
  });
  return problems;
}

if (import.meta.main) {
  Deno.chdir(new URL("../..", import.meta.url));
  const api = await readApi();
  // These pages contain names of earlier versions.
  const paths = (await pagePaths()).filter((path) => path !== "CHANGELOG.md" && path !== "docs/renames.md");
  const problems = (await Promise.all(paths.map(readPage))).flatMap((page) => unknownNames(page, api));
  for (const { path, line, text } of problems) console.error(`${path}:${line}: ${text}`);
  Deno.exit(problems.length === 0 ? 0 : 1);
}
