# the whole zoo from the npm package in about 105 minutes on two cores.  The stages were run one by one in this order; this
# script itself has not been run end to end.
. "$(dirname "$0")/env.sh"; mkdir -p ../build ../log ../data ../out
tar xzf "${EMOJI:?emoji-datasource-google-16.0.0.tgz, from npm pack}" -C ../data --wildcards 'package/img/google/64/*' package/emoji.json package/README.md package/LICENSE
python scenes.py; python s1_tokenizer.py
python s3_vae.py 660 1 new > ../log/vae.log 2>&1 &
python s2_clip.py 600 1 > ../log/clip.log 2>&1; wait
python s3_vae.py 270 2 resume > ../log/vae2.log 2>&1
bash run_unet.sh 2520
bash run_rest.sh
