/**
 * Prints the exports of an entry point as text: one line for each declaration and each member, sorted by name.
 *
 * `deno doc` omits some details: in a tuple, the names of elements and the `?` after them; `abstract` before `new`; and
 * `in`, `out` and `const` of type parameters.
 *
 * @module
 */
import type {
  ClassDef,
  ConstructorDef,
  Declaration,
  Exported,
  FunctionDef,
  IndexSignature,
  InterfaceDef,
  JsDoc,
  Literal,
  MemberDef,
  MethodDef,
  Modifier,
  Param,
  PropertyDef,
  TsType,
  TypeLiteral,
  TypeParam,
} from "./doc.ts";

const INDENT = "  ";
/** The tags for the stability of a name. */
const STABILITY = ["experimental", "deprecated", "internal"];

/** Returns the text of all exports, which ends with a line feed. */
export function printExports(exports: readonly Exported[]): string {
  return byName(exports).flatMap(printExported).map((line) => `${line}\n`).join("");
}

function printExported({ name, declarations }: Exported): string[] {
  return callable(declarations, (declaration) => declaration.kind === "function" ? declaration.def : undefined)
    .flatMap((declaration) => {
      const [first, ...members] = printDeclaration(name, declaration);
      return [stability(declaration.jsDoc) + first, ...members.map((line) => INDENT + line)];
    });
}

function printDeclaration(name: string, declaration: Declaration): string[] {
  switch (declaration.kind) {
    case "function":
      return [`function ${name}${printFunction(declaration.def)}`];
    case "variable": {
      const { kind, tsType } = declaration.def;
      // A table has one line for each entry.
      if (tsType?.kind === "typeLiteral") return [`${kind} ${name}`, ...printMembers(tsType.value)];
      return [`${kind} ${name}${annotation(tsType)}`];
    }
    case "typeAlias":
      return [`type ${name}${printTypeParams(declaration.def.typeParams)} = ${printType(declaration.def.tsType)}`];
    case "class":
      return printClass(name, declaration.def);
    case "interface":
      return printInterface(name, declaration.def);
    case "enum":
      // Without a value, the value of a member depends on its position.
      return [
        `enum ${name}`,
        ...declaration.def.members.map(({ name, init }) => init ? `${name} = ${printType(init)}` : name),
      ];
    case "namespace":
      return [`namespace ${name}`, ...byName(declaration.def.elements).flatMap(printExported)];
  }
}

function printClass(name: string, def: ClassDef): string[] {
  const superclass = def.extends === undefined
    ? ""
    : ` extends ${def.extends}${printTypeArguments(def.superTypeParams)}`;
  const head = `${def.isAbstract ? "abstract " : ""}class ${name}${printTypeParams(def.typeParams)}${superclass}`;
  const constructors = callable(def.constructors ?? [], (constructor) => constructor);
  const methods = Map.groupBy(def.methods ?? [], ({ name, kind }) => `${kind} ${name}`);
  return [
    head + heritage("implements", def.implements),
    // Callers only need to know that they cannot call a private constructor.
    ...constructors.map((constructor) =>
      constructor.accessibility === "private" ? "private constructor" : printConstructor(constructor)
    ),
    ...byName([
      ...constructors.flatMap(parameterProperties),
      ...def.properties ?? [],
      ...[...methods.values()].flatMap((overloads) => callable(overloads, ({ functionDef }) => functionDef)),
    ].filter(({ accessibility }) => accessibility !== "private")).map(printMember),
    ...(def.indexSignatures ?? []).map(printIndexSignature),
  ];
}

function printConstructor(constructor: MemberDef & FunctionDef): string {
  return `${modifiers(constructor)}constructor${printFunction(constructor)}`;
}

/** Returns the parameters of a constructor that are also properties. */
function parameterProperties({ params }: ConstructorDef): PropertyDef[] {
  return params.flatMap((param) => {
    if (param.kind !== "identifier" || !(param.accessibility || param.readonly)) return [];
    return [{ ...param, accessibility: param.accessibility ?? "public" }];
  });
}

function printInterface(name: string, def: InterfaceDef): string[] {
  return [
    `interface ${name}${printTypeParams(def.typeParams)}${heritage("extends", def.extends)}`,
    ...printMembers(def),
  ];
}

function printMembers(def: TypeLiteral): string[] {
  const methods = (def.methods ?? []).map((method): MethodDef => ({ ...method, functionDef: method }));
  return [
    ...(def.callSignatures ?? []).map(({ tsType, ...signature }) =>
      printFunction(tsType === undefined ? signature : { ...signature, returnType: tsType })
    ),
    ...(def.constructors ?? []).map((signature) => `new ${printFunction(signature)}`),
    ...byName([...def.properties ?? [], ...methods]).map(printMember),
    ...(def.indexSignatures ?? []).map(printIndexSignature),
  ];
}

function printMember(member: PropertyDef | MethodDef): string {
  const name = /^(?:[\w$]+|\[.*\])$/.test(member.name) ? member.name : JSON.stringify(member.name);
  const head = `${stability(member.jsDoc)}${modifiers(member)}`;
  const optional = member.optional ? "?" : "";
  if (!("functionDef" in member)) {
    return `${head}${member.readonly ? "readonly " : ""}${name}${optional}${annotation(member.tsType)}`;
  }
  const keyword = { method: "", getter: "get ", setter: "set " }[member.kind];
  return `${head}${keyword}${name}${optional}${printFunction(member.functionDef)}`;
}

function modifiers({ accessibility, isStatic, isAbstract }: MemberDef): string {
  return [accessibility === "protected" && "protected ", isStatic && "static ", isAbstract && "abstract "]
    .filter((modifier) => modifier).join("");
}

function printIndexSignature({ readonly, params, tsType }: IndexSignature): string {
  return `${readonly ? "readonly " : ""}[${params.map(printParam).join(", ")}]${annotation(tsType)}`;
}

/** Removes the implementation of overloads, which callers do not see. */
function callable<T>(items: readonly T[], functionOf: (item: T) => FunctionDef | undefined): readonly T[] {
  const signatures = items.filter((item) => functionOf(item)?.hasBody !== true);
  return signatures.some((item) => functionOf(item)) ? signatures : items;
}

function printFunction({ typeParams, params, returnType }: FunctionDef): string {
  return `${printTypeParams(typeParams)}(${params.map(printParam).join(", ")})${annotation(returnType)}`;
}

/** Prints a parameter. For a destructured parameter, the type is sufficient. */
function printParam(param: Param): string {
  switch (param.kind) {
    case "identifier":
      return `${param.name}${param.optional ? "?" : ""}${annotation(param.tsType)}`;
    case "object":
    case "array":
      return `${param.kind === "object" ? "{}" : "[]"}${param.optional ? "?" : ""}${annotation(param.tsType)}`;
    case "rest":
      return `...${printParam(param.arg)}${annotation(param.tsType)}`;
    case "assign":
      return printParam({ ...param.left, optional: true } as Param);
  }
}

function printType(type: TsType): string {
  switch (type.kind) {
    case "keyword":
      return type.value;
    case "this":
      return "this";
    case "typeQuery":
      return `typeof ${type.value}`;
    case "literal":
      return printLiteral(type.value);
    case "typeRef":
      return type.value.typeName + printTypeArguments(type.value.typeParams);
    case "union":
      return type.value.map(printType).join(" | ");
    case "intersection":
      return type.value.map(printType).join(" & ");
    case "tuple":
      return `[${type.value.map(printType).join(", ")}]`;
    case "array":
      return `${printElement(type.value)}[]`;
    case "optional":
      return `${printType(type.value)}?`;
    case "rest":
      return `...${printType(type.value)}`;
    case "parenthesized":
      return `(${printType(type.value)})`;
    case "typeOperator":
      return `${type.value.operator} ${printType(type.value.tsType)}`;
    case "indexedAccess":
      return `${printType(type.value.objType)}[${printType(type.value.indexType)}]`;
    case "infer":
      return `infer ${printTypeParam(type.value.typeParam)}`;
    case "typeLiteral":
      return `{ ${printMembers(type.value).join("; ")} }`;
    case "fnOrConstructor": {
      const { constructor, typeParams = [], params, tsType } = type.value;
      const head = `${constructor ? "new " : ""}${printFunction({ typeParams, params })}`;
      return `${head} => ${printType(tsType)}`;
    }
    case "conditional": {
      const { checkType, extendsType, trueType, falseType } = type.value;
      return `${printType(checkType)} extends ${printType(extendsType)} ? ${printType(trueType)} : ${
        printType(falseType)
      }`;
    }
    case "importType": {
      const { specifier, qualifier, typeParams } = type.value;
      return `import(${JSON.stringify(specifier)})${qualifier ? `.${qualifier}` : ""}${printTypeArguments(typeParams)}`;
    }
    case "mapped": {
      const { readonly, typeParam: { name, constraint }, nameType, optional, tsType } = type.value;
      const key = `${name} in ${printType(constraint!)}${nameType ? ` as ${printType(nameType)}` : ""}`;
      return `{ ${sign(readonly, "readonly ")}[${key}]${sign(optional, "?")}${annotation(tsType)} }`;
    }
    case "typePredicate": {
      const { asserts, param, type: is } = type.value;
      return `${asserts ? "asserts " : ""}${param.name ?? "this"}${is ? ` is ${printType(is)}` : ""}`;
    }
    default:
      throw new Error(`A kind of type that is not known: ${(type as { kind: string }).kind}`);
  }
}

/** Prints the type of an array's elements. `deno doc` omits parentheses in inferred types. */
function printElement(type: TsType): string {
  return type.kind === "union" || type.kind === "intersection" ? `(${printType(type)})` : printType(type);
}

function printLiteral(literal: Literal): string {
  switch (literal.kind) {
    case "string":
      return JSON.stringify(literal.string);
    case "number":
      return `${literal.number}`;
    case "bigInt":
      return `${literal.string}n`;
    case "boolean":
      return `${literal.boolean}`;
    case "template":
      return `\`${
        literal.tsTypes.map((type) =>
          type.kind === "literal" && type.value.kind === "string" ? type.value.string : `\${${printType(type)}}`
        ).join("")
      }\``;
  }
}

function sign(modifier: Modifier | undefined, text: string): string {
  return modifier === undefined || modifier === false ? "" : `${modifier === true ? "" : modifier}${text}`;
}

function printTypeParams(params: readonly TypeParam[] = []): string {
  return params.length === 0 ? "" : `<${params.map(printTypeParam).join(", ")}>`;
}

function printTypeParam({ name, constraint, default: otherwise }: TypeParam): string {
  const limit = constraint === undefined ? "" : ` extends ${printType(constraint)}`;
  return `${name}${limit}${otherwise === undefined ? "" : ` = ${printType(otherwise)}`}`;
}

function printTypeArguments(types: readonly TsType[] = []): string {
  return types.length === 0 ? "" : `<${types.map(printType).join(", ")}>`;
}

function heritage(keyword: string, types: readonly TsType[] = []): string {
  return types.length === 0 ? "" : ` ${keyword} ${types.map(printType).sort().join(", ")}`;
}

function annotation(type: TsType | undefined): string {
  return type === undefined ? "" : `: ${printType(type)}`;
}

function stability({ tags = [] }: JsDoc = {}): string {
  return tags.filter(({ kind }) => STABILITY.includes(kind)).map(({ kind }) => `@${kind} `).join("");
}

/** Sorts by name, in the same order on all systems. Items with the same name keep their order. */
function byName<T extends { readonly name: string }>(items: readonly T[]): T[] {
  return items.toSorted((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
}
