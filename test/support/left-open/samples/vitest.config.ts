import { defineConfig } from 'vitest/config';

/** The run of setup.test.ts. Its files are no tests of this project. */
export default defineConfig({ test: { include: ['*.sample.ts'], setupFiles: ['../setup.ts'], pool: 'forks' } });
