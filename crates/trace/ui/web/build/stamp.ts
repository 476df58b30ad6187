/**
 * Gives the built assets a common address that changes with their contents: `/assets/<stamp>/app.js`. The names of the
 * files stay, so that the history of `dist` holds changes and not copies. The server reads the stamp from `BUILD`.
 */

import { createHash } from 'node:crypto';
import type { Plugin } from 'vite';

export function stamp(): Plugin {
  return {
    name: 'periplus-stamp',
    apply: 'build',
    enforce: 'post',
    generateBundle: {
      order: 'post',
      handler(_options, bundle) {
        const hash = createHash('sha256');
        for (const name of Object.keys(bundle).sort()) {
          const file = bundle[name];
          if (!file || !name.startsWith('assets/')) continue;
          hash.update(name).update(file.type === 'chunk' ? file.code : file.source);
        }
        const id = hash.digest('hex').slice(0, 16);
        const page = bundle['index.html'];
        if (page?.type !== 'asset') throw new Error('the build made no index.html');
        // Nothing is painted before the script has chosen between light and dark.
        page.source = String(page.source)
          .replaceAll('/assets/', `/assets/${id}/`)
          .replaceAll(' crossorigin', '')
          .replace('<script type="module"', '<script type="module" blocking="render"');
        this.emitFile({ type: 'asset', fileName: 'BUILD', source: `${id}\n` });
      },
    },
  };
}
