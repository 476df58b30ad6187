import { defineConfig } from 'vite';
import { stamp } from './build/stamp.ts';
import { mockServer } from './dev/plugin.ts';

export default defineConfig({
  plugins: [stamp(), mockServer(process.env['PERIPLUS_URL'])],
  build: {
    outDir: '../dist',
    emptyOutDir: true,
    target: 'es2022',
    cssCodeSplit: false,
    modulePreload: false,
    reportCompressedSize: true,
    rollupOptions: {
      output: {
        // Chromium compiles the script off the main thread while it arrives, instead of function by function when they are called.
        postBanner: '//# allFunctionsCalledOnLoad',
        entryFileNames: 'assets/app.js',
        chunkFileNames: 'assets/[name].js',
        assetFileNames: 'assets/app[extname]',
      },
    },
  },
});
