/** Writes docs/configuration.md; `npm run generate` calls it, and a test fails when it was forgotten. */
import { writeFileSync } from 'node:fs';
import { configurationDocument } from './help.ts';

writeFileSync(new URL('../../docs/configuration.md', import.meta.url), configurationDocument());
