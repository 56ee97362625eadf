import { globSync } from 'node:fs';
import { join, relative } from 'node:path';
import ts from 'typescript';

/** A declaration of src and the files of src that use it. */
export interface Declared {
  /** `path: name`, or `path: class.name` for a method. */
  readonly name: string;
  readonly users: ReadonlySet<string>;
}

export interface Declarations {
  /** Exports, with the files that import them. */
  readonly exports: readonly Declared[];
  /** Methods and accessors of classes, with the files that name them elsewhere. */
  readonly methods: readonly Declared[];
}

/** The program of the sources below `root`, without tests: what they use is not in use. */
export function programOf(root: string): ts.Program {
  const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), (path) => ts.sys.readFile(path)) as {
    config: object;
  };
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
  const files = globSync('src/**/*.ts', { cwd: root }).map((path) => join(root, path));
  return ts.createProgram(files, { ...options, noEmit: true, skipLibCheck: true });
}

/** What the sources in the folder declare, and which of them use it. */
export function declarationsIn(program: ts.Program, folder: string): Declarations {
  const checker = program.getTypeChecker();
  const sources = program.getSourceFiles().filter(({ fileName }) => fileName.startsWith(`${folder}/`));
  const users = new Map<ts.Symbol, Set<string>>();
  const methodNames = new Map<string, ts.Symbol[]>();
  const exported = new Map<ts.Symbol, string>();
  const methods = new Map<ts.Symbol, string>();
  for (const source of sources) {
    const path = relative(folder, source.fileName);
    const module = checker.getSymbolAtLocation(source);
    for (const symbol of module === undefined ? [] : checker.getExportsOfModule(module)) {
      const original = originOf(checker, symbol);
      if (isDeclaredIn(original, source)) exported.set(original, `${path}: ${symbol.name}`);
    }
    eachClass(source, (owner) => {
      for (const member of owner.members) {
        const name = methodName(member);
        const symbol = name === null ? undefined : checker.getSymbolAtLocation(member.name!);
        if (name === null || symbol === undefined) continue;
        methods.set(symbol, `${path}: ${owner.name?.text ?? 'class'}.${name}`);
        methodNames.set(name, [...(methodNames.get(name) ?? []), symbol]);
      }
    });
  }
  const use = (symbol: ts.Symbol, path: string): void => {
    users.set(symbol, (users.get(symbol) ?? new Set()).add(path));
  };
  for (const source of sources) {
    const path = relative(folder, source.fileName);
    const visit = (node: ts.Node): void => {
      if (ts.isImportSpecifier(node) || ts.isExportSpecifier(node)) {
        const symbol = checker.getSymbolAtLocation(node.propertyName ?? node.name);
        if (symbol !== undefined) use(originOf(checker, symbol), path);
      } else if (ts.isBindingElement(node) && isOfImport(node)) {
        const bound = node.propertyName ?? node.name;
        const symbol = checker.getTypeAtLocation(node.parent).getProperty(bound.getText());
        if (symbol !== undefined) use(originOf(checker, symbol), path);
      } else if (ts.isPropertyAccessExpression(node) && ts.isNamespaceImport(declarationOf(checker, node.expression))) {
        const symbol = checker.getSymbolAtLocation(node.name);
        if (symbol !== undefined) use(originOf(checker, symbol), path);
      }
      // By name: a method may be called through an interface that its class implements.
      if (ts.isIdentifier(node) && methodNames.has(node.text) && !isNameOfMember(node)) {
        for (const symbol of methodNames.get(node.text)!) use(symbol, path);
      }
      ts.forEachChild(node, visit);
    };
    visit(source);
  }
  const described = (found: ReadonlyMap<ts.Symbol, string>): Declared[] =>
    Array.from(found, ([symbol, name]) => ({ name, users: users.get(symbol) ?? new Set<string>() }));
  return { exports: described(exported), methods: described(methods) };
}

function originOf(checker: ts.TypeChecker, symbol: ts.Symbol): ts.Symbol {
  return (symbol.flags & ts.SymbolFlags.Alias) === 0 ? symbol : checker.getAliasedSymbol(symbol);
}

function isDeclaredIn(symbol: ts.Symbol, source: ts.SourceFile): boolean {
  return symbol.declarations?.some((declaration) => declaration.getSourceFile() === source) ?? false;
}

function declarationOf(checker: ts.TypeChecker, expression: ts.Expression): ts.Node {
  return checker.getSymbolAtLocation(expression)?.declarations?.[0] ?? expression;
}

function eachClass(node: ts.Node, visit: (owner: ts.ClassLikeDeclaration) => void): void {
  if (ts.isClassLike(node)) visit(node);
  ts.forEachChild(node, (child) => {
    eachClass(child, visit);
  });
}

/** The name of a public method or accessor; null for anything else. */
function methodName(member: ts.ClassElement): string | null {
  const isMethod = ts.isMethodDeclaration(member) || ts.isGetAccessor(member) || ts.isSetAccessor(member);
  return isMethod && ts.isIdentifier(member.name) ? member.name.text : null;
}

/** Whether the element takes something from a module that is imported when it is needed. */
function isOfImport(node: ts.BindingElement): boolean {
  const statement = ts.findAncestor(node, ts.isVariableStatement);
  return ts.isObjectBindingPattern(node.parent) && (statement?.getText().includes('import(') ?? false);
}

/** Whether the identifier only declares: a member of a class or of an interface. */
function isNameOfMember(node: ts.Identifier): boolean {
  const { parent } = node;
  return (ts.isClassElement(parent) || ts.isTypeElement(parent)) && parent.name === node;
}
