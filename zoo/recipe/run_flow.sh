# stage 8: the flow pipeline, from the scenes, tokenizer and VAE of the other stages; $1 = training budget in seconds.
# REWARDS names the folder of the trained rewards, whose text towers it has.
. "$(dirname "$0")/env.sh"
python s8_flow.py check && python s8_flow.py cache && python s8_flow.py train $1 > ../log/flow.log 2>&1 && python s8_flow.py pipe
