/**
 * Lists what a program can call and give: the public functions and methods, and the options of each.
 *
 * @module
 */
import type { Api, Declaration, Exported, FunctionDef, Param, TsType } from "../api/doc.ts";

/** A public function, a method, an accessor or a constructor. */
export interface PublicFunction {
  /** The entry point that exports it, such as `./http`. */
  readonly entry: string;
  /** The name, such as `listen`, `Socket.read` or `new WorkerPool`. */
  readonly name: string;
  /** The path of its module, and its class or interface if it has one. */
  readonly file: string;
  readonly owner: string | undefined;
  /** Whether the owner is an interface. Other names implement it. */
  readonly isInterface: boolean;
  /** The name of the member or function. */
  readonly member: string;
  readonly options: readonly Option[];
}

/** A value that an argument may have, or a member of an argument. */
export interface Option {
  /** The index of the parameter. */
  readonly parameter: number;
  /** The names that lead to the member, such as `tls` and `cert`; empty if the argument itself is the option's name. */
  readonly path: readonly string[];
  /** The option's name, such as `tls.cert`. */
  readonly name: string;
}

/** The interfaces that a program implements, or whose objects a program makes. The library calls these methods. */
const OF_PROGRAMS = ["Environment", "HttpConnection", "ServedModule", "Terminal"];
const PROJECT = new URL("../../", import.meta.url).href;

/** A declaration as `deno doc` prints it, with the module that it is in. */
type Located = Declaration & { readonly location: { readonly filename: string } };

/** A member of a type. */
interface Member {
  readonly name: string;
  /** Whether it is a property that may be left out. */
  readonly optional: boolean;
  readonly type: TsType | undefined;
}

/** Returns the public functions of all entry points, sorted. A name that two of them export is listed once. */
export function publicFunctions(api: Api): PublicFunction[] {
  const types = new Map([...api.values()].flat().map((exported) => [exported.name, exported]));
  const functions = new Map<string, PublicFunction>();
  for (const [entry, exports] of api) {
    for (const exported of exports) {
      for (const found of functionsOf(entry, exported, types)) {
        const key = `${found.file} ${found.name}`;
        const known = functions.get(key);
        const options = new Map([...known?.options ?? [], ...found.options].map((option) => [option.name, option]));
        functions.set(key, { ...known ?? found, options: [...options.values()].toSorted(byName) });
      }
    }
  }
  const entries = [...api.keys()];
  return [...functions.values()].toSorted((a, b) =>
    entries.indexOf(a.entry) - entries.indexOf(b.entry) || byName(a, b)
  );
}

function functionsOf(entry: string, exported: Exported, types: Types): PublicFunction[] {
  const found: PublicFunction[] = [];
  for (const declaration of exported.declarations as readonly Located[]) {
    const file = declaration.location.filename.slice(PROJECT.length);
    const isInterface = declaration.kind === "interface";
    const add = (member: string, def: FunctionDef, owner?: string) => {
      const name = owner === undefined ? member : member === "constructor" ? `new ${owner}` : `${owner}.${member}`;
      found.push({ entry, name, file, owner, isInterface, member, options: optionsOf(def, types) });
    };
    if (declaration.kind === "function") add(exported.name, declaration.def);
    if (declaration.kind === "class") {
      for (const constructor of declaration.def.constructors ?? []) {
        if (constructor.accessibility !== "private") add("constructor", constructor, exported.name);
      }
      for (const { name, functionDef, accessibility, isAbstract } of declaration.def.methods ?? []) {
        if (accessibility !== "private" && !isAbstract) add(name, functionDef, exported.name);
      }
    }
    if (declaration.kind === "interface" && !OF_PROGRAMS.includes(exported.name)) {
      for (const method of declaration.def.methods ?? []) add(method.name, method, exported.name);
    }
  }
  return found;
}

/** Exported names and their declarations. */
type Types = ReadonlyMap<string, Exported>;

function optionsOf({ params, typeParams = [] }: FunctionDef, types: Types): Option[] {
  return params.flatMap((param, parameter) => {
    const type = typeOf(param);
    if (type?.kind === "typeRef") {
      // One of the names in a table, such as getOption's.
      const constraint = typeParams.find(({ name }) => name === type.value.typeName)?.constraint;
      if (constraint?.kind === "typeOperator" && constraint.value.operator === "keyof") {
        return membersOf(constraint.value.tsType, types).map(({ name }) => ({ parameter, path: [], name }));
      }
    }
    return pathsOf(type, types).map((path) => ({ parameter, path, name: path.join(".") }));
  });
}

function typeOf(param: Param): TsType | undefined {
  return param.kind === "assign" ? param.tsType ?? typeOf(param.left) : param.tsType;
}

/** Returns the paths of the options in a type; none if it is not a type of options. */
function pathsOf(type: TsType | undefined, types: Types): string[][] {
  if (type === undefined || !isOptions(type, types)) return [];
  return membersOf(type, types).flatMap(({ name, type }) => [
    [name],
    ...pathsOf(type, types).map((path) => [name, ...path]),
  ]);
}

/** Returns whether a type has options: it is named so, is written in place, or has a property that may be left out. */
function isOptions(type: TsType, types: Types): boolean {
  if (type.kind === "typeLiteral") return true;
  if (type.kind === "union") return type.value.some((one) => isOptions(one, types));
  if (type.kind === "typeRef" && /Options$/.test(type.value.typeName)) return true;
  return membersOf(type, types).some(({ optional }) => optional);
}

function membersOf(type: TsType, types: Types): Member[] {
  switch (type.kind) {
    case "parenthesized":
      return membersOf(type.value, types);
    case "union":
    case "intersection":
      return type.value.flatMap((one) => membersOf(one, types));
    case "typeLiteral":
      return ownMembers(type.value);
    case "typeRef": {
      const { typeName, typeParams: [of, names] = [] } = type.value;
      if (typeName === "Pick" || typeName === "Omit") {
        const chosen = namesOf(names!);
        return membersOf(of!, types).filter(({ name }) => chosen.includes(name) === (typeName === "Pick"));
      }
      return (types.get(typeName)?.declarations ?? []).flatMap((declaration) => {
        if (declaration.kind === "typeAlias") return membersOf(declaration.def.tsType, types);
        if (declaration.kind !== "interface") return [];
        const { extends: bases = [] } = declaration.def;
        return [...ownMembers(declaration.def), ...bases.flatMap((base) => membersOf(base, types))];
      });
    }
    default:
      return [];
  }
}

function ownMembers({ properties = [], methods = [] }: Extract<TsType, { kind: "typeLiteral" }>["value"]): Member[] {
  return [...properties, ...methods.map(({ name }) => ({ name, optional: false, tsType: undefined }))]
    .filter(({ tsType }) => tsType?.kind !== "keyword" || tsType.value !== "never")
    .map(({ name, optional = false, tsType }) => ({ name, optional, type: tsType }));
}

/** Returns the texts of a type such as `"a" | "b"`. */
function namesOf(type: TsType): string[] {
  if (type.kind === "union") return type.value.flatMap(namesOf);
  return type.kind === "literal" && type.value.kind === "string" ? [type.value.string] : [];
}

function byName(a: { readonly name: string }, b: { readonly name: string }): number {
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
}
