/**
 * Marks the public functions in a copy of the library: each notes that it was called, and with which options.
 *
 * @module
 */
import { parse } from "npm:@babel/parser@^8.1.3";
import { type Function as FunctionNode, type Node, VISITOR_KEYS } from "npm:@babel/types@^8.1.3";
import type { PublicFunction } from "./public.ts";

/** The modules whose classes have the methods of an interface without naming it. */
const ELSEWHERE: Readonly<Record<string, readonly string[]>> = {
  HttpInfo: ["http/deno_connection.ts", "http/exchange.ts"],
};
const IN_CLASSES = /^(?:Class(?:Private)?(?:Method|Property)|StaticBlock)$/;

/** Where the copy has the module that takes notes: with what is published, as tests copy that. */
export const RECORDER = "internal/recorder.ts";

/** A function in a module. */
interface Found {
  readonly node: FunctionNode;
  /** The names of its class and of the interfaces of that, or in the type of its object; empty for a function alone. */
  readonly owners: readonly string[];
  readonly member: string;
}

/** A text to be inserted, and where. */
type Insertion = readonly [at: number, text: string];

/**
 * Marks functions.
 *
 * @param sources The text of each module, by its path.
 * @param functions The functions.
 * @returns The text of each module that has one of the functions.
 * @throws {Error} If a function cannot be found.
 */
export function markFunctions(
  sources: ReadonlyMap<string, string>,
  functions: readonly PublicFunction[],
): Map<string, string> {
  const insertions = new Map<string, Insertion[]>();
  const modules = [...sources].map(([file, source]) => [file, functionsIn(source)] as const);
  for (const called of functions) {
    let count = 0;
    for (const [file, found] of modules) {
      for (const { node } of found.filter((found) => isMeant(called, file, found))) {
        count++;
        insertions.set(file, [...insertions.get(file) ?? [], ...markOf(called, node, sources.get(file)!)]);
      }
    }
    if (count === 0) throw new Error(`Cannot mark ${called.name} of ${called.file}: no code of it was found`);
  }
  return new Map([...insertions].map(([file, list]) => {
    const recorder = `${"../".repeat(file.split("/").length - 1) || "./"}${RECORDER}`;
    // On the first line, so that the lines keep their numbers.
    return [file, insert(sources.get(file)!, [[0, `import { seen as __seen } from "${recorder}"; `], ...list])];
  }));
}

function isMeant({ file, owner, isInterface, member }: PublicFunction, module: string, found: Found): boolean {
  if (found.member !== member) return false;
  if (owner === undefined) return module === file && found.owners.length === 0;
  if (!isInterface) return module === file && found.owners.includes(owner);
  return found.owners.includes(owner) || ELSEWHERE[owner]?.includes(module) === true;
}

/** Returns the functions with a body. */
function functionsIn(source: string): Found[] {
  const found: Found[] = [];
  const textOf = ({ start, end }: Node) => source.slice(start!, end!);
  const nameOf = ({ key, computed }: { key: Node; computed?: boolean }) => computed ? `[${textOf(key)}]` : textOf(key);

  /** `type` has the names in the type of the value that is made here. */
  function visit(node: Node, type: readonly string[]): void {
    switch (node.type) {
      case "ClassMethod":
      case "ObjectMethod":
        found.push({ node, owners: type, member: nameOf(node) });
        break;
      case "ObjectProperty":
        if (node.value.type === "ArrowFunctionExpression") {
          found.push({ node: node.value, owners: type, member: nameOf(node) });
        }
        break;
      case "FunctionDeclaration":
        if (type.length === 0) found.push({ node, owners: [], member: node.id!.name });
        break;
    }
    const annotation = node.type === "ClassDeclaration" || node.type === "ClassExpression"
      ? [node.id, ...node.implements ?? []]
      : [node.type === "VariableDeclarator" ? node.id : Reflect.get(node, "returnType")];
    const names = annotation.flatMap((part) => part ? textOf(part).match(/\w+/g) ?? [] : []);
    // What its members make is not an object of its class.
    const inner = names.length > 0 || IN_CLASSES.test(node.type) ? names : type;
    for (const key of VISITOR_KEYS[node.type] ?? []) {
      for (const child of [Reflect.get(node, key)].flat()) if (child) visit(child, inner);
    }
  }
  visit(parse(source, { sourceType: "module", plugins: ["typescript", "decoratorAutoAccessors"] }).program, []);
  return found;
}

function markOf({ entry, name, options }: PublicFunction, node: FunctionNode, source: string): Insertion[] {
  const paths = options.map(({ parameter, path, name }) => [parameter, name, ...path]);
  const isArrow = node.type === "ArrowFunctionExpression";
  const args = isArrow
    ? `[${node.params.map(({ start, end }) => source.slice(start!, end!).replace(/\s*[:=].*/s, ""))}]`
    : "arguments";
  const mark = `__seen(${JSON.stringify(`${entry}\t${name}`)}, ${args}, ${JSON.stringify(paths)})`;
  const { body } = node;
  if (body.type === "BlockStatement") return [[body.start! + 1, ` ${mark};`]];
  const start = (body.extra?.parenStart as number | undefined) ?? body.start!;
  return [[start, `(${mark}, `], [body.end!, ")"]];
}

/** Inserts texts. Those for the same position are inserted in their order. */
function insert(source: string, insertions: readonly Insertion[]): string {
  let text = "";
  let position = 0;
  for (const [at, inserted] of insertions.toSorted(([a], [b]) => a - b)) {
    text += source.slice(position, at) + inserted;
    position = at;
  }
  return text + source.slice(position);
}
