import { dirname, relative, resolve, sep } from 'node:path';
import type { Rule } from 'eslint';

const base = ['limits', 'errors', 'time'];
/** The base, and the model of metrics, for the folders that count. */
const counting = ['metrics', ...base];
const machines = ['coordinator', 'consumption', 'credit', 'subscription', 'retention'];

/**
 * Which folders of src/ (and gen) each folder of src/ may import, beside itself.
 * docs/architecture.md says why.
 */
export const mayImport: Readonly<Record<string, readonly string[]>> = {
  limits: [],
  errors: [],
  time: [],
  metrics: [],
  account: ['limits', 'errors'],
  address: [],
  consumption: ['limits', 'errors'],
  credit: ['limits', 'errors'],
  coordinator: ['limits', 'errors'],
  subscription: ['limits', 'errors'],
  retention: ['limits', 'errors'],
  log: ['account', 'retention', ...base],
  commit: ['account', 'log', 'consumption', ...counting],
  delivery: ['account', 'log', 'commit', ...machines, ...counting],
  lifecycle: ['account', 'log', 'delivery', 'retention', 'subscription', ...base],
  ownership: base,
  storage: ['address', 'log', 'commit', 'delivery', 'lifecycle', 'ownership', ...machines, ...counting],
  broker: ['account', 'log', 'commit', 'delivery', 'lifecycle', ...machines, ...counting],
  wire: ['log', 'commit', 'gen', 'limits', 'errors'],
  rpc: ['account', 'broker', 'wire', 'gen', 'log', 'delivery', ...machines, ...counting],
  embedded: ['errors', 'time'],
  config: ['account', 'address', 'limits', 'time'],
  server: [
    'account',
    'address',
    'broker',
    'config',
    'coordinator',
    'embedded',
    'ownership',
    'rpc',
    'storage',
    'wire',
    ...counting,
  ],
};

/**
 * The folders inside a folder of src/, and which of its siblings each may import. Files beside them
 * may import all of them, and none of them imports a file beside them.
 */
export const roomsOf: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  errors: { rejections: [] },
  broker: { pages: [] },
  consumption: { offsets: [], partitioned: ['offsets'] },
  coordinator: { assignors: [] },
  delivery: {
    ports: [],
    kept: ['ports'],
    dispatch: ['ports', 'kept'],
    rounds: ['ports', 'dispatch'],
    subscriptions: ['ports', 'kept', 'dispatch'],
    groups: ['ports', 'kept', 'dispatch', 'rounds', 'subscriptions'],
    calls: ['ports', 'kept', 'dispatch', 'rounds', 'subscriptions', 'groups'],
    views: ['ports', 'dispatch', 'subscriptions', 'groups'],
  },
  storage: {
    pg: [],
    schema: ['pg'],
    sessions: ['pg'],
    commit: ['pg', 'schema', 'sessions'],
    log: ['pg', 'schema', 'sessions', 'commit'],
    groups: ['pg', 'schema', 'sessions', 'commit'],
    retention: ['pg', 'schema', 'sessions', 'log'],
    numbers: ['pg', 'sessions'],
    ownership: ['pg', 'sessions'],
    migrations: ['pg', 'sessions'],
  },
  rpc: {
    validation: [],
    edge: ['validation'],
    connections: ['edge'],
    bodies: [],
    answers: ['edge', 'validation'],
    translation: ['edge', 'validation'],
    handlers: ['edge', 'translation', 'validation'],
    requests: ['edge', 'connections', 'bodies', 'translation'],
    operations: ['edge', 'translation', 'handlers', 'requests'],
    grpc: ['edge', 'connections', 'bodies', 'answers', 'translation', 'handlers'],
    http: ['edge', 'connections', 'bodies', 'answers', 'translation', 'handlers', 'requests', 'operations'],
  },
};

/**
 * Packages with a place of their own: the folders of src/ that may import what the pattern matches.
 */
const packagePlaces: readonly { pattern: RegExp; folders?: readonly string[]; not?: readonly string[] }[] = [
  { pattern: /^(pg|pg-copy-streams|drizzle-orm)(\/|$)/, folders: ['storage'] },
  { pattern: /^(@grpc\/|@connectrpc\/|node:http2$)/, folders: ['rpc', 'main'] },
  { pattern: /^@bufbuild\/protobuf/, folders: ['rpc', 'wire'] },
  { pattern: /^node:sqlite$/, folders: ['embedded'] },
  // The pure machines and what they stand on do no I/O.
  { pattern: /^node:(?!assert)/, not: [...machines, 'limits', 'errors', 'address', 'account'] },
];

/** The string of an import, or the expression of a dynamic one. */
type Imported = Parameters<NonNullable<Rule.RuleListener['ImportExpression']>>[0]['source'];

/** Lint rule: imports run one way, from the edge to the core. */
export const importDirection: Rule.RuleModule = {
  meta: {
    type: 'problem',
    schema: [],
    messages: {
      folder: 'src/{{from}} may not import {{to}} (test/tidy/import-direction.ts, docs/architecture.md).',
      room: 'src/{{from}} may not import src/{{to}} (test/tidy/import-direction.ts, docs/architecture.md).',
      package: '{{source}} has no place in src/{{from}} (test/tidy/import-direction.ts).',
      outside: 'src may not import {{to}}.',
    },
  },
  create(context) {
    const root = context.cwd;
    const path = relative(root, context.filename);
    const from = folderOf(path) ?? 'none';
    const room = roomOf(path);
    const check = ({ source }: { source?: Imported | null | undefined }): void => {
      if (source?.type !== 'Literal' || typeof source.value !== 'string') return;
      const report = (messageId: string, data: Record<string, string>): void => {
        context.report({ node: source, messageId, data: { from, ...data } });
      };
      if (!source.value.startsWith('.')) {
        if (!packageFits(from, source.value)) report('package', { source: source.value });
        return;
      }
      const target = relative(root, resolve(dirname(context.filename), source.value));
      const to = folderOf(target);
      if (to === null) report('outside', { to: source.value });
      else if (from === to && !roomFits(from, room, roomOf(target))) {
        report('room', { from: placeOf(from, room), to: placeOf(from, roomOf(target)) });
      } else if (from !== 'main' && from !== to && !(mayImport[from] ?? []).includes(to)) report('folder', { to });
    };
    return {
      ImportDeclaration: check,
      ExportNamedDeclaration: check,
      ExportAllDeclaration: check,
      ImportExpression: check,
    };
  },
};

function packageFits(from: string, source: string): boolean {
  return packagePlaces
    .filter(({ pattern }) => pattern.test(source))
    .every(({ folders, not }) => (folders?.includes(from) ?? true) && !(not?.includes(from) ?? false));
}

/** `src/log/batch.ts` → log, `src/main.ts` → main, `gen/…` → gen; null for anything else. */
function folderOf(path: string): string | null {
  const [top, folder = ''] = path.split(sep);
  if (top === 'gen') return 'gen';
  return top === 'src' ? folder.replace(/\.ts$/, '') : null;
}

/**
 * `src/delivery/groups/groups.ts` → groups; null for a file that lies beside the rooms of its
 * folder.
 */
function roomOf(path: string): string | null {
  const [, , room, file] = path.split(sep);
  return file === undefined ? null : (room ?? null);
}

function roomFits(folder: string, from: string | null, to: string | null): boolean {
  if (from === null || from === to) return true;
  return to !== null && (roomsOf[folder]?.[from] ?? []).includes(to);
}

function placeOf(folder: string, room: string | null): string {
  return room === null ? folder : `${folder}/${room}`;
}
