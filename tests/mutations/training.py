"""Recipes, the optimizers that they name, and runs that are planned, built, looped and resumed."""

from mutations import Mutation

TRAINING = "keras_resnext/training/"
TESTS = "tests/training/"
MUTATIONS = (
    Mutation(
        file=TRAINING + "recipe.py",
        old='self.weight_decay is None or self.optimizer in ("adamw", "lamb")',
        new='self.weight_decay is None or self.optimizer in ("adam", "adamw", "lamb")',
        tests=TESTS + "test_recipes.py -k of_ones_own",
    ),
    Mutation(
        file=TRAINING + "recipe.py",
        old='"weight_decay": 2 * l2, "decoupled": False',
        new='"weight_decay": l2, "decoupled": False',
        tests=TESTS + "test_recipes.py -k before_there_was_one_decay",
    ),
    Mutation(
        file=TRAINING + "recipe.py",
        old="self.learning_rate * batch_size / (self.reference_batch or batch_size)",
        new="self.learning_rate",
        tests=TESTS + "test_recipes.py -k linear_rule",
    ),
    Mutation(
        file=TRAINING + "recipe.py",
        old='overrides = {"decoupled": None, **overrides}',
        new="pass",
        tests=TESTS + "test_recipes.py -k of_ones_own",
    ),
    Mutation(
        file=TRAINING + "build.py",
        old="recipe.decay / 2",
        new="recipe.decay",
        tests=TESTS + "test_optimizers.py -k penalty_in_the_loss",
    ),
    Mutation(
        file=TRAINING + "optimizers.py",
        old="rate = rate * _trust(_length(variable), _length(update))",
        new="pass",
        tests=TESTS + "test_optimizers.py -k 'papers and lamb'",
    ),
    Mutation(
        file=TRAINING + "optimizers.py",
        old="recipe.ema ** (1 / recipe.accumulate)",
        new="recipe.ema",
        tests=TESTS + "test_optimizers.py -k closed_form_and_leaves",
    ),
    Mutation(
        file=TRAINING + "optimizers.py",
        old="for variable, value in zip(trained, before, strict=True):",
        new="for variable, value in ():",
        tests=TESTS + "test_optimizers.py -k closed_form_and_leaves",
    ),
    Mutation(
        file=TRAINING + "schedules.py",
        old="step >= boundary",
        new="step > boundary",
        tests=TESTS + "test_optimizers.py -k schedules_are_closed_form",
    ),
    Mutation(
        file=TRAINING + "losses.py",
        old="ops.convert_to_tensor(labels) > PRESENT",
        new="ops.convert_to_tensor(labels) > 0",
        tests=TESTS + "test_optimizers.py -k binary_cross_entropy",
    ),
    Mutation(
        file=TRAINING + "distillation.py",
        old="self.weight * self.temperature**2",
        new="self.weight * self.temperature",
        tests=TESTS + "test_distillation.py -k that_of_the_papers",
    ),
    Mutation(
        file=TRAINING + "fine_tune.py",
        old="stage is not None and stage <= through",
        new="stage is not None and stage < through",
        tests=TESTS + "test_fine_tune.py -k 'does_not_change_by_a_bit and float32'",
    ),
    Mutation(
        file=TRAINING + "plan.py",
        old="_check_same_run(Path(output), facts)",
        new="pass",
        tests=TESTS + "test_plan.py -k what_cannot_be_resumed",
    ),
    Mutation(
        file=TRAINING + "plan.py",
        old="dataset = replace(dataset, augmentation=parse_augmentation(recipe.augmentation))",
        new="parse_augmentation(recipe.augmentation)",
        tests=TESTS + "test_plan.py -k cropped_if",
    ),
    Mutation(
        file=TRAINING + "checkpoint.py",
        old="((MODEL, student.variables), (OPTIMIZER, model.optimizer.variables))",
        new="((MODEL, student.variables),)",
        tests=TESTS + "test_resume.py -k 'killed_run_ends and float32'",
    ),
    Mutation(
        file=TRAINING + "callbacks.py",
        old="variable.assign(value)",
        new="pass",
        tests=TESTS + "test_resume.py -k 'killed_run_ends and float32'",
    ),
    Mutation(
        file=TRAINING + "loop.py",
        old="assemble(self.training, last, (first, step))",
        new="assemble(self.training, last, (first, 0))",
        tests=TESTS + "test_resume.py -k 'killed_run_ends and float32'",
    ),
    Mutation(
        file=TRAINING + "loop.py",
        old="                run.end_epoch()\n",
        new="                pass\n",
        tests=TESTS + "test_resume.py -k ctrl_c_in_a_test",
    ),
    Mutation(
        file=TRAINING + "run_folder.py",
        old="write(part)",
        new="write(path)",
        tests=TESTS + "test_run_folder.py -k write_that_fails",
    ),
    Mutation(
        file="keras_resnext/cli/training.py",
        old="recipe.replace(**changed, **own)",
        new="recipe.replace(**changed)",
        tests="tests/test_cli.py -k a_recipe_by_arguments",
    ),
)
