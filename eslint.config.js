import tseslint from 'typescript-eslint';
import { importDirection } from './test/tidy/import-direction.ts';

const clock = 'Time and chance are constructor parameters (src/time/clock.ts), so that tests can hold them still.';
const pureFolders = ['src/consumption/**', 'src/credit/**', 'src/coordinator/**'];

const bannedProperties = [
  { object: 'Date', property: 'now', message: clock },
  { object: 'performance', property: 'now', message: clock },
  { object: 'Math', property: 'random', message: clock },
  { object: 'crypto', property: 'randomUUID', message: clock },
];
const bannedTimers = ['setTimeout', 'setInterval', 'setImmediate'].map((name) => ({ name, message: clock }));
const bannedImports = [
  { name: 'node:crypto', importNames: ['randomUUID', 'randomInt'], message: clock },
  { name: 'node:timers', message: clock },
  { name: 'node:timers/promises', message: clock },
  { name: 'node:perf_hooks', message: clock },
];
const newDate = { selector: 'NewExpression[callee.name="Date"][arguments.length=0]', message: clock };
const newRejection = {
  selector: 'NewExpression[callee.name="Rejection"]',
  message: 'A rejection is made by the constructor of its reason, which has its message: src/errors/rejections.',
};
/**
 * The hot path of each record, and runs of offsets in flat arrays. A loop checks each index there,
 * and an index known to be in range needs its `!` under noUncheckedIndexedAccess.
 */
const indexLoops = [
  'src/wire/**/*.ts',
  'src/consumption/**/*.ts',
  'src/log/{batch,partitioner}.ts',
  'src/commit/route.ts',
  'src/rpc/translation/ack-command.ts',
  'src/storage/pg/{bytea-array,frontend-messages,one-round-trip}.ts',
];
const pure = 'A pure machine does not wait: input and time go in, effects come out.';

export default tseslint.config(
  { ignores: ['gen/', 'dist/', 'examples/*/gen/', 'node_modules/', 'data/', 'coverage/', 'bench/results/'] },
  {
    files: ['**/*.ts'],
    extends: [...tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      'no-var': 'error',
      'prefer-const': 'error',
      'no-console': 'off',
      'no-warning-comments': ['error', { terms: ['todo', 'fixme', 'xxx'] }],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/no-unnecessary-condition': 'off',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      // On for src, below.
      '@typescript-eslint/no-non-null-assertion': 'off',
      // Interfaces here are written with methods and implemented by closures as well as classes.
      '@typescript-eslint/unbound-method': 'off',
      // An interface may promise more time than an implementation takes.
      '@typescript-eslint/require-await': 'off',
    },
  },
  {
    files: ['src/**/*.ts'],
    plugins: { millrace: { rules: { 'import-direction': importDirection } } },
    rules: {
      'millrace/import-direction': 'error',
      // A value that an invariant guarantees is taken by `present` (src/errors/present.ts).
      '@typescript-eslint/no-non-null-assertion': 'error',
      'max-lines-per-function': ['error', { max: 70 }],
      'no-restricted-properties': ['error', ...bannedProperties],
      'no-restricted-globals': ['error', ...bannedTimers],
      'no-restricted-imports': ['error', { paths: bannedImports }],
      'no-restricted-syntax': ['error', newDate, newRejection],
    },
  },
  {
    files: pureFolders.map((folder) => `${folder}/*.ts`),
    rules: {
      'no-console': 'error',
      'no-restricted-syntax': [
        'error',
        newDate,
        newRejection,
        { selector: 'AwaitExpression', message: pure },
        { selector: ':function[async=true]', message: pure },
        { selector: 'NewExpression[callee.name="Promise"]', message: pure },
      ],
    },
  },
  { files: indexLoops, rules: { '@typescript-eslint/no-non-null-assertion': 'off' } },
  {
    files: ['src/errors/rejections/*.ts'],
    rules: { 'no-restricted-syntax': ['error', newDate] },
  },
  {
    files: ['src/time/system.ts'],
    rules: {
      'no-restricted-properties': 'off',
      'no-restricted-globals': 'off',
      'no-restricted-imports': 'off',
    },
  },
  {
    // It observes collections, not time.
    files: ['src/server/heap-watch.ts'],
    rules: { 'no-restricted-imports': 'off' },
  },
  {
    files: ['test/**/*.ts'],
    rules: {
      // No sleeps: wait on an event, a condition or a fake clock.
      'no-restricted-imports': [
        'error',
        {
          paths: [
            {
              name: 'node:timers/promises',
              importNames: ['setTimeout', 'setInterval', 'scheduler'],
              message: 'No sleeps in tests.',
            },
          ],
        },
      ],
      'no-restricted-syntax': [
        'error',
        {
          selector:
            'CallExpression[callee.property.name=/^(only|skip|todo|fixme)$/][callee.object.name=/^(test|it|describe)$/]',
          message: 'A test that is not run proves nothing.',
        },
        newRejection,
      ],
      // Matchers are typed any.
      '@typescript-eslint/no-unsafe-assignment': 'off',
    },
  },
);
